"""Token files of nanoGPT and llm.c: read as they are, refused when they are not."""

import numpy as np
import pytest

from scaling.data import token_files as token_files_module
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.token_files import TokenFiles

IDS = np.random.default_rng(0).integers(0, 1000, 5000)


def write_llm_c(path, ids, magic=20240520, version=1, count=None, kind=np.uint16):
    header = np.zeros(256, dtype=np.int32)
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.astype(kind).tobytes())


def config(folder, train="train.bin", val=(), vocab_size=1000, val_fraction=0.1) -> DataConfig:
    source = TokenFiles((str(folder / train),), tuple(str(folder / name) for name in val))
    return DataConfig(source, "none", vocab_size, val_fraction)


def prepared(folder, **changes):
    settings = config(folder, **changes)
    return prepare(settings, identify(settings), folder / "cache", progress=False)


def test_nanogpt_tokens_are_read_as_written_and_the_tail_is_held_out(tmp_path):
    (tmp_path / "train.bin").write_bytes(IDS.astype(np.uint16).tobytes())
    data = prepared(tmp_path)
    np.testing.assert_array_equal(data.train, IDS[:4500])
    np.testing.assert_array_equal(data.val, IDS[4500:])
    assert data.manifest.used_vocabulary == len(set(IDS[:4500].tolist()))
    with pytest.raises(ValueError, match="came as tokens"):
        data.tokenizer()


def test_llm_c_headers_are_taken_off(tmp_path):
    write_llm_c(tmp_path / "train.bin", IDS)
    write_llm_c(tmp_path / "wide.bin", IDS, magic=20240801, version=7, kind=np.uint32)
    for name in ("train.bin", "wide.bin"):
        data = prepared(tmp_path, train=name)
        np.testing.assert_array_equal(data.train, IDS[:4500])
        np.testing.assert_array_equal(data.val, IDS[4500:])


def test_a_vocabulary_above_sixteen_bits_is_kept_whole(tmp_path):
    ids = np.array([3, 70_000, 128_255] * 10)
    write_llm_c(tmp_path / "train.bin", ids, magic=20240801, version=7, kind=np.uint32)
    data = prepared(tmp_path, vocab_size=128_256)
    assert data.train.dtype == np.uint32
    np.testing.assert_array_equal(data.train, ids[:27])


def test_files_for_validation_leave_the_training_tokens_whole_and_the_fraction_out_of_the_spec(tmp_path):
    (tmp_path / "train.bin").write_bytes(IDS.astype(np.uint16).tobytes())
    write_llm_c(tmp_path / "val.bin", IDS[::-1])
    data = prepared(tmp_path, val=("val.bin",))
    np.testing.assert_array_equal(data.train, IDS)
    np.testing.assert_array_equal(data.val, IDS[::-1])
    one, two = (identify(config(tmp_path, val=("val.bin",), val_fraction=f)) for f in (0.1, 0.2))
    assert one == two


def test_the_names_of_shards_do_not_matter_and_copies_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(token_files_module, "TOKENS_AT_ONCE", 300)
    found = []
    for names in ("abc", "cab"):
        folder = tmp_path / names
        folder.mkdir()
        for name, ids in zip(names, (IDS[:2000], IDS[2000:3000], IDS[3000:]), strict=True):
            (folder / f"{name}.bin").write_bytes(ids.astype(np.uint16).tobytes())
        (folder / "copy.bin").write_bytes(IDS[:2000].astype(np.uint16).tobytes())
        found.append(prepared(folder, train="*.bin"))
    np.testing.assert_array_equal(found[0].train, found[1].train)
    np.testing.assert_array_equal(found[0].val, found[1].val)
    assert len(found[0].train) + len(found[0].val) == 5000
    assert found[0].manifest.dropped_documents == 1


def test_the_first_id_outside_the_vocabulary_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(token_files_module, "TOKENS_AT_ONCE", 1000)
    ids = IDS.copy()
    ids[[3210, 4000]] = 1000, 2000
    (tmp_path / "train.bin").write_bytes(ids.astype(np.uint16).tobytes())
    with pytest.raises(ValueError, match=r"train.bin: token 3210 has id 1000, outside vocab_size=1000"):
        prepared(tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(prepared(tmp_path, vocab_size=2001).train) == 4500


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"count": 6000}, "promises 6000 tokens, the file holds 5000"),
        ({"version": 2}, "llm.c version 2 is unknown"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, header, message):
    write_llm_c(tmp_path / "train.bin", IDS, **header)
    with pytest.raises(ValueError, match=message):
        identify(config(tmp_path))


def test_half_a_token_is_refused(tmp_path):
    (tmp_path / "train.bin").write_bytes(b"\1\0\2")
    with pytest.raises(ValueError, match="3 bytes is no whole number of uint16 tokens"):
        identify(config(tmp_path))


def test_a_file_in_both_splits_is_refused(tmp_path):
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_bytes(IDS.astype(np.uint16).tobytes())
    with pytest.raises(ValueError, match=r"train.bin is in train and in val"):
        identify(config(tmp_path, val=("val.bin",)))


def test_too_few_tokens_to_hold_any_out_is_refused_with_the_numbers(tmp_path):
    (tmp_path / "train.bin").write_bytes(np.arange(4, dtype=np.uint16).tobytes())
    with pytest.raises(ValueError, match=r"found 4 \(4 for training, 0 for validation\)"):
        prepared(tmp_path)

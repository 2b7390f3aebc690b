"""Token files of nanoGPT and llm.c: read as they are, refused when they are not."""

import hashlib

import numpy as np
import pytest

from scaling.data import token_files as token_files_module
from scaling.data.files import combine
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.token_files import TokenFiles
from scaling.data.token_layout import DTYPES

IDS = np.random.default_rng(0).integers(0, 1000, 5000)


def write_llm_c(path, ids, magic=20240520, version=1, count=None, kind=np.uint16):
    header = np.zeros(256, dtype=np.int32)
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.astype(kind).tobytes())


def config(folder, train="train.bin", val=(), vocab_size=1000, val_fraction=0.1, dtype=None) -> DataConfig:
    source = TokenFiles((str(folder / train),), tuple(str(folder / name) for name in val), dtype)
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


@pytest.mark.parametrize("kind", ["<u2", "<u4", "<i4", "<i8", "<u8"])
def test_the_width_of_raw_ids_is_inferred_and_stated(tmp_path, capsys, kind):
    (tmp_path / "train.bin").write_bytes(IDS.astype(kind).tobytes())
    np.testing.assert_array_equal(prepared(tmp_path).train, IDS[:4500])
    name = {"<u2": "uint16", "<u4": "uint32", "<i4": "uint32"}.get(kind, "int64")
    assert (
        f"train.bin: ids are read as {name}, inferred from the bytes; data.source.dtype={name}"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64", "uint16-be", "uint32-be", "int64-be"])
def test_the_type_asked_for_is_read_without_a_word(tmp_path, capsys, dtype):
    (tmp_path / "train.bin").write_bytes(IDS.astype(DTYPES[dtype]).tobytes())
    np.testing.assert_array_equal(prepared(tmp_path, dtype=dtype).train, IDS[:4500])
    assert "inferred" not in capsys.readouterr().err


def test_bytes_are_ids_of_eight_bits_where_asked_for(tmp_path):
    (tmp_path / "train.bin").write_bytes((IDS % 256).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(prepared(tmp_path, dtype="uint8", vocab_size=256).train, IDS[:4500] % 256)
    with pytest.raises(ValueError, match=r"token ids lie outside data.vocab_size=256.*set data.source.dtype=uint8"):
        identify(config(tmp_path, vocab_size=256))


@pytest.mark.parametrize("kind", ["<u2", ">u4", "<i4", "<i8", ">i8", "<i2"])
def test_npy_states_its_type(tmp_path, capsys, kind):
    np.save(tmp_path / "train.npy", IDS.astype(kind))
    data = prepared(tmp_path, train="train.npy")
    np.testing.assert_array_equal(np.concatenate([data.train, data.val]), IDS)
    assert capsys.readouterr().err == ""


def test_one_type_has_one_identity_and_two_types_have_two(tmp_path):
    (tmp_path / "train.bin").write_bytes(IDS.astype(np.uint32).tobytes())
    found = [identify(config(tmp_path, dtype=dtype)).fingerprint for dtype in (None, "uint32", "int32")]
    assert found[0] == found[1] != found[2]
    (tmp_path / "train.bin").write_bytes(IDS.astype(np.uint16).tobytes())
    digest = hashlib.sha256(IDS.astype(np.uint16).tobytes()).hexdigest()
    assert identify(config(tmp_path)).fingerprint == combine("tokens 1", [f"train:{digest}"])  # as before the setting


@pytest.mark.parametrize(
    ("written", "dtype", "fits"),
    [
        ("<u4", "uint16", "uint32"),
        ("<i8", "uint16", "int64"),
        ("<i8", "uint32", "int64"),
        ("<u2", "uint32", "uint16"),
        ("<u2", "int64", "uint16"),
        ("<u2", "uint16-be", "uint16"),
        (">u2", None, "uint16-be"),
        (">u4", None, "uint32-be"),
        (">u4", "uint32", "uint32-be"),
    ],
)
@pytest.mark.parametrize("vocab_size", [1000, 50257])
def test_ids_read_with_a_wrong_width_are_refused_with_the_type_that_fits(tmp_path, written, dtype, fits, vocab_size):
    (tmp_path / "train.bin").write_bytes(np.tile(IDS % vocab_size, 10).astype(written).tobytes())
    with pytest.raises(ValueError, match=rf"train.bin: read as .*set data.source.dtype={fits}(;|$)"):
        identify(config(tmp_path, dtype=dtype, vocab_size=vocab_size))


def test_a_header_whose_ids_are_of_another_width_is_refused(tmp_path):
    halves = IDS.astype(np.uint32).view(np.uint16)
    write_llm_c(tmp_path / "train.bin", halves)
    np.save(tmp_path / "train.npy", halves)
    for name in ("train.bin", "train.npy"):
        with pytest.raises(ValueError, match=r"every second id is nearly always 0.*write the file again"):
            identify(config(tmp_path, train=name))


def test_a_header_in_the_other_byte_order_is_read(tmp_path):
    header = np.zeros(256, dtype=">i4")
    header[:3] = 20240520, 1, len(IDS)
    (tmp_path / "train.bin").write_bytes(header.tobytes() + IDS.astype(">u2").tobytes())
    np.testing.assert_array_equal(prepared(tmp_path).train, IDS[:4500])


@pytest.mark.parametrize("dtype", [None, "uint16"])
def test_a_vocabulary_beyond_the_width_is_refused(tmp_path, dtype):
    ids = np.random.default_rng(0).integers(0, 151_936, 5000)
    (tmp_path / "train.bin").write_bytes(ids.astype(np.uint16).tobytes())
    with pytest.raises(ValueError, match=r"uint16 ids reach 65,535, below data.vocab_size=151936.*wrapped"):
        identify(config(tmp_path, dtype=dtype, vocab_size=151_936))
    np.save(tmp_path / "train.npy", ids.astype(np.uint16))
    with pytest.raises(ValueError, match=r"data.vocab_size=151936.*wrapped"):
        identify(config(tmp_path, train="train.npy", vocab_size=151_936))
    (tmp_path / "train.bin").write_bytes(ids.astype(np.uint32).tobytes())
    np.testing.assert_array_equal(prepared(tmp_path, vocab_size=151_936).train, ids[:4500])


def test_a_negative_id_is_refused(tmp_path):
    np.save(tmp_path / "train.npy", np.where(IDS == 7, -100, IDS))
    with pytest.raises(ValueError, match=r"has id -100, outside vocab_size=1000; ids begin at 0"):
        prepared(tmp_path, train="train.npy")


def test_too_few_bytes_to_show_a_width_ask_for_the_type(tmp_path):
    (tmp_path / "train.bin").write_bytes(np.arange(20, 40, dtype=np.uint32).tobytes())
    with pytest.raises(ValueError, match=r"80 bytes are too few.*data.source.dtype=uint16 or data.source.dtype=uint32"):
        identify(config(tmp_path))
    assert len(prepared(tmp_path, dtype="uint32").train) == 18


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([20250101, 3, 5000, *[0] * 253], dtype="<i4").tobytes() + bytes(10_000), "header of an unknown kind"),
        (b"PK\3\4" + bytes(100), "is a zip archive"),
        (b"MMIDIDX\0\0" + bytes(100), "is the index of a Megatron file"),
        (b"\x93NUMPY\1\0", r"cannot be read as .npy"),
        (IDS.astype(np.uint32).tobytes()[:-2], "19998 bytes is no whole number of uint32 tokens"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    (tmp_path / "train.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        identify(config(tmp_path))


def test_arrays_of_no_ids_and_settings_of_no_type_are_refused(tmp_path):
    for array in (IDS.astype(np.float32), IDS.reshape(50, 100), np.array(IDS, dtype=object)):
        np.save(tmp_path / "train.npy", array)
        with pytest.raises(ValueError, match=r"integers in one row|cannot be read as .npy"):
            identify(config(tmp_path, train="train.npy"))
    (tmp_path / "train.npy").write_bytes(IDS.astype(np.uint16).tobytes())
    with pytest.raises(ValueError, match=r"train.npy is no .npy file"):
        identify(config(tmp_path, train="train.npy"))
    np.save(tmp_path / "train.npy", IDS)
    with pytest.raises(ValueError, match=r"the header of .*train.npy states int64; set data.source.dtype=null"):
        identify(config(tmp_path, train="train.npy", dtype="uint16"))
    with pytest.raises(ValueError, match=r"unknown data.source.dtype 'u4': choose from int32, int32-be"):
        identify(config(tmp_path, train="train.npy", dtype="u4"))

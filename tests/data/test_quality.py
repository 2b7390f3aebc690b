"""Noise and duplicates: as much as asked, the same every time, and nothing of them in validation."""

import itertools
import json
import tempfile
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import quality as quality_module
from scaling.data import spool as spool_module
from scaling.data.cache import TokenData
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.quality import add_noise, occurrences
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text

DOCUMENTS = [f"document {index}: " + "größe " * (index % 9) for index in range(600)]


@pytest.fixture
def config(tmp_path) -> DataConfig:
    write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    return DataConfig(Text((str(tmp_path / "a.jsonl"),), "text"), "bytes", 256, 0.3)


def write_jsonl(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def prepared(folder, config, **changes) -> TokenData:
    changed = replace(config, **changes)
    return prepare(changed, identify(changed), folder / "cache", progress=False)


def documents_of(ids: np.ndarray) -> list[str]:
    return [part.decode() for part in ids.astype(np.uint8).tobytes()[:-1].split(b"\0")]


def test_plain_data_are_the_documents_in_the_order_of_their_hash(config, tmp_path):
    data = prepared(tmp_path, config)
    ordered = sorted(DOCUMENTS, key=lambda text: sha256(text.encode()).digest())
    content = b"".join(text.encode() + b"\0" for text in ordered)
    assert data.val.astype(np.uint8).tobytes() + data.train.astype(np.uint8).tobytes() == content
    assert data.manifest.unique_train_tokens == data.manifest.train_tokens
    assert data.manifest.noisy_train_tokens == data.manifest.duplicate_train_documents == 0


@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0])
def test_noise_replaces_its_share_of_training_tokens_uniformly_and_none_of_validation(config, tmp_path, noise):
    clean, noisy = prepared(tmp_path, config), prepared(tmp_path, config, noise=noise)
    np.testing.assert_array_equal(noisy.val, clean.val)
    assert len(noisy.train) == len(clean.train)
    tokens, drawn = len(clean.train), noisy.manifest.noisy_train_tokens
    assert abs(drawn - noise * tokens) <= 5 * (tokens * noise * (1 - noise)) ** 0.5
    changed = np.asarray(noisy.train)[noisy.train != clean.train]
    kept_by_chance = drawn - len(changed)
    assert 0 <= kept_by_chance <= drawn / 256 + 5 * (drawn / 256) ** 0.5
    # of bytes below 128 and above, each drawn half the time
    assert abs((changed < 128).mean() - 0.5) < 5 * 0.5 / len(changed) ** 0.5 + 1 / 256


def test_noise_draws_every_id_alike():
    counts = np.bincount(noisy_zeros(500_000, 1.0, 50, seed=3), minlength=50)
    assert len(counts) == 50
    assert np.abs(counts - 10_000).max() < 5 * 10_000**0.5


def noisy_zeros(tokens: int, noise: float, vocab_size: int, seed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.bin"
        np.zeros(tokens, dtype=np.uint16).tofile(path)
        add_noise(path, noise, vocab_size, seed)
        return np.fromfile(path, dtype=np.uint16)


def test_noise_never_changes_between_versions():
    # pinned: a data set made again under another release of NumPy must hold the same tokens
    assert noisy_zeros(12, 0.5, 1000, seed=7).tolist() == [169, 0, 482, 572, 741, 999, 0, 263, 0, 0, 99, 0]


def test_noise_does_not_depend_on_how_much_is_read_at_once(monkeypatch):
    whole = noisy_zeros(1000, 0.5, 1000, seed=1)
    monkeypatch.setattr(quality_module, "TOKENS_AT_ONCE", 7)
    np.testing.assert_array_equal(noisy_zeros(1000, 0.5, 1000, seed=1), whole)


def test_noise_comes_into_sources_of_tokens_too(tmp_path):
    source = Synthetic(tokens=20_000, order=1, zipf_exponent=1.0, concentration=1.0, seed=0)
    config = DataConfig(source, "none", 70, 0.5)
    clean, noisy = prepared(tmp_path, config), prepared(tmp_path, config, noise=0.5)
    np.testing.assert_array_equal(noisy.val, clean.val)
    changed = int((noisy.train != clean.train).sum())
    assert noisy.manifest.noisy_train_tokens / 1.1 < changed <= noisy.manifest.noisy_train_tokens
    assert noisy.manifest.used_vocabulary == len(set(noisy.train.tolist()))
    assert noisy.manifest.entropies_nats == clean.manifest.entropies_nats


@pytest.mark.parametrize("duplicate", [0.1, 0.5, 0.9])
def test_duplicates_take_the_place_of_their_share_of_training_documents(config, tmp_path, duplicate):
    clean, repeated = prepared(tmp_path, config), prepared(tmp_path, config, duplicate=duplicate)
    np.testing.assert_array_equal(repeated.val, clean.val)
    before, after = documents_of(clean.train), documents_of(repeated.train)
    assert len(after) == len(before) == repeated.manifest.train_documents
    assert set(after) < set(before)
    copies = len(after) - len(set(after))
    assert copies == repeated.manifest.duplicate_train_documents == round(duplicate * len(before))
    assert repeated.manifest.unique_train_tokens == sum(len(text.encode()) + 1 for text in set(after))
    assert repeated.manifest.train_tokens == len(repeated.train) == repeated.manifest.train_bytes


def test_copies_lie_all_over_the_split_and_not_beside_each_other(config, tmp_path):
    documents = documents_of(prepared(tmp_path, config, duplicate=0.5).train)
    neighbours = sum(one == two for one, two in itertools.pairwise(documents))
    assert len(documents) - len(set(documents)) > 150
    assert neighbours < 15  # two or so by chance
    early = documents[: len(documents) // 2]
    assert len(early) - len(set(early)) > 20


def test_documents_that_remain_keep_their_order(config, tmp_path):
    before = documents_of(prepared(tmp_path, config).train)
    after = documents_of(prepared(tmp_path, config, duplicate=0.2).train)
    once = [text for text, count in Counter(after).items() if count == 1]
    assert len(once) > 100
    assert [text for text in after if text in once] == [text for text in before if text in once]


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 5))
def test_occurrences_keep_the_number_of_documents_and_give_up_the_asked_share(documents, duplicate, seed):
    copies = round(duplicate * documents)
    if not 0 < copies < documents:
        with pytest.raises(ValueError, match=f"of {documents} training documents makes {copies} of them copies"):
            occurrences(documents, duplicate, seed)
        return
    times = occurrences(documents, duplicate, seed)
    assert times.sum() == documents
    assert (times == 0).sum() == copies


def test_which_documents_are_copied_never_changes_between_versions():
    assert occurrences(12, 0.5, seed=7).tolist() == [3, 0, 0, 0, 3, 2, 1, 0, 1, 2, 0, 0]


def test_neither_depends_on_the_order_of_files_or_the_buckets_on_disk(config, tmp_path, monkeypatch):
    whole = prepared(tmp_path, config, noise=0.1, duplicate=0.4, quality_seed=5)
    monkeypatch.setattr(spool_module, "BUCKET_BYTES", 2000)
    for part in range(3):
        write_jsonl(tmp_path / f"part{part}.jsonl", DOCUMENTS[::-1][part::3])
    parts = replace(config, source=Text((str(tmp_path / "part*.jsonl"),), "text"))
    pieces = prepared(tmp_path, parts, noise=0.1, duplicate=0.4, quality_seed=5)
    assert pieces.manifest.digest != whole.manifest.digest
    np.testing.assert_array_equal(pieces.train, whole.train)
    np.testing.assert_array_equal(pieces.val, whole.val)


def test_the_tokenizer_is_the_one_of_the_plain_data(config, tmp_path):
    bpe = replace(config, tokenizer="bpe", vocab_size=300)
    found = [prepared(tmp_path, bpe, **change) for change in ({}, {"duplicate": 0.5}, {"noise": 0.5})]
    assert len({data.manifest.tokenizer_sha256 for data in found}) == 1
    assert len({data.val.tobytes() for data in found}) == 1
    assert len({data.train.tobytes() for data in found}) == 3
    tokenizer, repeated = found[1].tokenizer(), found[1]
    distinct = {tokenizer.decode(repeated.train[first:end]) for first, end in borders(repeated.train)}
    assert len(distinct) == repeated.manifest.train_documents - repeated.manifest.duplicate_train_documents
    assert repeated.manifest.unique_train_tokens == sum(len(tokenizer.encode(text)) + 1 for text in distinct)


def borders(ids: np.ndarray) -> list[tuple[int, int]]:
    ends = np.flatnonzero(ids == 0)
    return list(zip([0, *(ends[:-1] + 1)], ends, strict=True))


def test_both_enter_the_identity_and_the_seed_only_where_it_decides_something(config):
    changes = [{}, {"noise": 0.1}, {"duplicate": 0.1}, {"noise": 0.1, "quality_seed": 1}]
    changes += [{"duplicate": 0.1, "quality_seed": 1}, {"noise": 0.1, "duplicate": 0.1}]
    specs = [identify(replace(config, **change)) for change in changes]
    assert len(set(specs)) == len(specs)
    assert (specs[1].noise, specs[2].duplicate, specs[3].quality_seed) == (0.1, 0.1, 1)
    assert identify(replace(config, quality_seed=9)) == specs[0]
    assert json.dumps(identify(replace(config, noise=1)).noise) == "1.0"


def test_another_seed_spoils_other_tokens_and_documents(config, tmp_path):
    for change in ({"noise": 0.2}, {"duplicate": 0.2}):
        one, two = (prepared(tmp_path, config, quality_seed=seed, **change) for seed in (0, 1))
        assert one.train.tobytes() != two.train.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 1.1}, r"data.noise=1.1: a share of the training tokens, from 0 to 1"),
        ({"noise": float("nan")}, r"data.noise=nan: a share"),
        ({"noise": -0.1}, r"data.noise=-0.1: a share"),
        ({"duplicate": 1.0}, r"data.duplicate=1.0: a share of the training documents, from 0 to below 1"),
        ({"duplicate": -0.5}, r"data.duplicate=-0.5: a share"),
        ({"quality_seed": -1}, r"data.quality_seed=-1: must be 0 or more"),
    ],
)
def test_impossible_shares_are_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        identify(replace(config, **change))


def test_tokens_have_no_documents_to_repeat():
    source = Synthetic(tokens=1000, order=1, zipf_exponent=1.0, concentration=1.0, seed=0)
    with pytest.raises(ValueError, match=r"data.duplicate=0.5: a synthetic source knows no documents to repeat; set"):
        identify(DataConfig(source, "none", 8, 0.5, duplicate=0.5))


def test_a_share_too_small_for_one_document_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match=r"data.duplicate=0.0001 of \d+ training documents makes 0 of them copies"):
        prepared(tmp_path, config, duplicate=0.0001)
    assert list((tmp_path / "cache").iterdir()) == []

"""Splitting and writing: by document, by content alone, without loss."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.data import spool as spool_module
from scaling.data.cache import TokenData
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.sources import Stdlib
from scaling.data.text_files import Text

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


def prepared(folder, *paths, tokenizer="bytes", vocab_size=256, val_fraction=0.3) -> TokenData:
    config = DataConfig(Text(tuple(map(str, paths)), "text"), tokenizer, vocab_size, val_fraction)
    return prepare(config, identify(config), folder / "cache", progress=False)


def write_jsonl(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def documents_of(ids: np.ndarray) -> list[str]:
    content = ids.astype(np.uint8).tobytes()
    assert content.endswith(b"\0")
    return [part.decode() for part in content[:-1].split(b"\0")]


@given(st.lists(texts, min_size=2, max_size=30), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_is_in_both_splits_and_the_order_of_files_changes_no_token(
    tmp_path_factory, documents, random, files
):
    folder = tmp_path_factory.mktemp("split")
    shuffled = random.sample(documents, len(documents))
    write_jsonl(folder / "all.jsonl", documents)
    for index in range(files):
        write_jsonl(folder / f"part{index}.jsonl", [*shuffled[index::files], shuffled[0]])
    parts = [folder / f"part{index}.jsonl" for index in range(files)]
    if len(set(documents)) < 2:
        with pytest.raises(ValueError, match="found 1 distinct documents"):
            prepared(folder, folder / "all.jsonl")
        return
    whole = prepared(folder, folder / "all.jsonl")
    pieces = prepared(folder, *parts)
    train, val = documents_of(whole.train), documents_of(whole.val)
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(set(documents))
    np.testing.assert_array_equal(whole.train, pieces.train)
    np.testing.assert_array_equal(whole.val, pieces.val)
    assert whole.manifest.dropped_documents == len(documents) - len(set(documents))


def test_paths_and_names_do_not_enter_the_fingerprint_but_content_and_field_do(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.txt").write_text("two")
    (tmp_path / "d.jsonl").write_text('{"text": "x", "body": "y"}\n')

    def fingerprint(*names, field="text"):
        source = Text(tuple(str(tmp_path / name) for name in names), field)
        return identify(DataConfig(source, "bytes", 256, 0.1)).fingerprint

    assert fingerprint("a.txt", "b.txt") == fingerprint("deep/c.txt", "a.txt") == fingerprint("**/*.txt")
    assert fingerprint("a.txt", "b.txt") != fingerprint("a.txt")
    assert fingerprint("a.txt") == fingerprint("a.txt", field="body")
    assert fingerprint("d.jsonl") != fingerprint("d.jsonl", field="body")


def test_the_same_text_in_every_format_gives_the_same_tokens(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = [f"document {index}: ü ✓ 𝄞" for index in range(50)]
    write_jsonl(tmp_path / "a.jsonl", documents)
    pq.write_table(pa.table({"text": [*documents, None, ""], "n": range(52)}), tmp_path / "a.parquet")
    (tmp_path / "txt").mkdir()
    for index, text in enumerate(documents):
        (tmp_path / "txt" / f"{index}.txt").write_text(text, encoding="utf-8")
    found = [prepared(tmp_path, tmp_path / name) for name in ("a.jsonl", "a.parquet", "txt/*.txt")]
    for other in found[1:]:
        np.testing.assert_array_equal(other.train, found[0].train)
        np.testing.assert_array_equal(other.val, found[0].val)
        assert other.manifest.digest != found[0].manifest.digest


@given(st.integers(0, 3), st.sampled_from([0, 1, 10, 3000, 40_000]), st.sampled_from(["", "\n", " "]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_long_file_is_cut_into_sections_that_join_to_the_file(tmp_path, shift, line, separator):
    path = tmp_path / "long.txt"
    content = "a" * shift + ("ü𝄞" * line + "word" + separator) * (1 + 300_000 // (6 * line + 5))
    path.write_bytes(content.encode())
    sections = list(Text((str(path),), "text").documents())
    assert "".join(sections) == content
    assert all(1 << 14 <= len(section.encode()) <= 1 << 15 for section in sections[:-1])
    assert len(sections[-1].encode()) <= 1 << 15
    if separator == "\n" and line < 3000:
        assert all(section.endswith("\n") for section in sections[:-1])


def test_a_single_long_file_can_be_split(tmp_path):
    (tmp_path / "one.txt").write_text("".join(f"line {index}\n" for index in range(100_000)))
    data = prepared(tmp_path, tmp_path / "one.txt", val_fraction=0.1)
    assert data.manifest.val_documents >= 1
    assert data.manifest.train_documents > 40


def test_the_held_out_share_is_near_the_asked_one(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [f"document {index}" for index in range(10_000)])
    found = prepared(tmp_path, tmp_path / "a.jsonl", val_fraction=0.2).manifest
    assert found.train_documents + found.val_documents == 10_000
    assert abs(found.val_documents - 2000) < 5 * (10_000 * 0.2 * 0.8) ** 0.5


def test_a_larger_validation_share_only_adds_documents(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [f"document {index}" for index in range(300)])
    small = documents_of(prepared(tmp_path, tmp_path / "a.jsonl", val_fraction=0.1).val)
    large = documents_of(prepared(tmp_path, tmp_path / "a.jsonl", val_fraction=0.3).val)
    assert large[: len(small)] == small
    assert len(large) > len(small)


def test_the_number_of_buckets_on_disk_changes_no_token(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", [f"document {index}" for index in range(3000)])
    whole = prepared(tmp_path / "one", tmp_path / "a.jsonl")
    monkeypatch.setattr(spool_module, "BUCKET_BYTES", 2000)
    pieces = prepared(tmp_path / "many", tmp_path / "a.jsonl")
    np.testing.assert_array_equal(whole.train, pieces.train)
    np.testing.assert_array_equal(whole.val, pieces.val)


def test_bytes_count_text_and_one_end_mark_per_document_under_every_tokenizer(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [f"größe {index}" for index in range(100)])
    found = {
        name: prepared(tmp_path, tmp_path / "a.jsonl", tokenizer=name, vocab_size=vocab_size).manifest
        for name, vocab_size in (("bytes", 256), ("chars", 20), ("bpe", 300))
    }
    assert {(m.train_bytes, m.val_bytes) for m in found.values()} == {
        (found["bytes"].train_tokens, found["bytes"].val_tokens)
    }
    assert found["chars"].train_tokens == found["chars"].train_bytes - 2 * found["chars"].train_documents
    assert found["bpe"].train_tokens < found["chars"].train_tokens


def test_one_document_cannot_be_split_and_the_error_says_what_was_found(tmp_path):
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(ValueError, match="found 1 distinct documents, needed 2"):
        prepared(tmp_path, tmp_path / "a.txt")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_library_text_is_split_quickly_identified_and_free_of_tests(tmp_path):
    config = DataConfig(Stdlib(), "chars", 128, 0.05)
    spec = identify(config)
    assert spec == identify(config)
    data = prepare(config, spec, tmp_path, progress=False)
    found = data.manifest
    assert found.train_bytes > 8_000_000
    assert 0.01 < found.val_tokens / found.train_tokens < 0.15
    assert found.used_vocabulary == 128
    assert found.unknown_val_tokens / found.val_tokens < 0.001
    text = data.tokenizer().decode(data.train)
    assert "class TestCase(object)" in text
    assert "idlelib.idle_test" not in {line.strip() for line in text.splitlines()}


def test_library_documents_hold_each_help_topic_once():
    from pydoc_data import topics as module

    topics = module.topics
    documents = list(Stdlib().documents())
    assert documents.count(topics["lambda"]) == 1
    assert sum(topics["lambda"] in text for text in documents) == 1
    assert Path(module.__file__).read_text(encoding="utf-8") not in documents
    assert not any("build_time_vars = {" in text[:200] for text in documents)

"""Data sets of the `datasets` library: the same tokens however they lie, known by content, without the network."""

import json
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.data.hf_dataset import DOCUMENT_BYTES, UNKNOWN_BYTES, HfDataset
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.text_files import Text

DOCUMENTS = [f"document {index}: ü ✓ 𝄞" for index in range(60)]
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    library = pytest.importorskip("datasets", reason="needs datasets: pip install 'scaling-experiments[hf]'")

    def refuse(*_):
        raise OSError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    return library


def source(path, **changes) -> HfDataset:
    values = {"config": None, "split": "train", "field": "text", "revision": None}
    values |= {"streaming": False, "max_documents": None, "text_bytes": None}
    return HfDataset(path=str(path), **{**values, **changes})


def settings(path, **changes) -> DataConfig:
    return DataConfig(source(path, **changes), "bytes", 256, 0.3)


def prepared(folder, config):
    return prepare(config, identify(config), folder / "cache", progress=False)


def write_jsonl(path, documents):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in documents))


@pytest.fixture
def folder(datasets, tmp_path) -> Path:
    """The same documents saved once alone, once with a split beside them, and as files."""
    rows = datasets.Dataset.from_dict({"text": [*DOCUMENTS, None, ""], "n": range(62)})
    other = datasets.Dataset.from_dict({"text": ["x", "y"], "n": [0, 1]})
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=rows, test=other).save_to_disk(tmp_path / "both")
    write_jsonl(tmp_path / "files" / "train.jsonl", DOCUMENTS)
    write_jsonl(tmp_path / "files" / "test.jsonl", ["x", "y"])
    return tmp_path


def test_however_the_rows_lie_the_tokens_are_those_of_the_text(folder):
    write_jsonl(folder / "plain" / "a.jsonl", DOCUMENTS)
    text = prepared(folder, DataConfig(Text((str(folder / "plain" / "a.jsonl"),), "text"), "bytes", 256, 0.3))
    for place in ("saved", "both", "files", "files/train.jsonl"):
        for more in ({}, {"streaming": True, "max_documents": 1000}):
            data = prepared(folder, settings(folder / place, **more))
            np.testing.assert_array_equal(data.train, text.train)
            np.testing.assert_array_equal(data.val, text.val)


def test_a_local_data_set_is_known_by_the_content_of_its_split(folder):
    def fingerprint(place, **changes):
        return source(folder / place, **changes).fingerprint(None)

    assert fingerprint("saved") == fingerprint("both")
    before = fingerprint("files")
    assert fingerprint("files/train.jsonl") == before
    (folder / "files").rename(folder / "moved")
    assert fingerprint("moved") == before
    different = [
        fingerprint("saved"),
        fingerprint("saved", field="n"),
        fingerprint("saved", max_documents=9),
        fingerprint("saved", max_documents=10),
        fingerprint("both", split="test"),
        fingerprint("moved"),
        fingerprint("moved", split="test"),
    ]
    assert len(set(different)) == len(different)
    write_jsonl(folder / "moved" / "train.jsonl", DOCUMENTS[:-1])
    assert fingerprint("moved") not in different


def test_paths_may_be_relative(folder, monkeypatch):
    whole = source(folder / "files")
    monkeypatch.chdir(folder / "files")
    for path in ("train.jsonl", "."):
        assert source(path).fingerprint(None) == whole.fingerprint(None)
        assert list(source(path).documents()) == DOCUMENTS


def test_how_a_data_card_has_its_files_read_enters_the_fingerprint(datasets, tmp_path):
    (tmp_path / "a.csv").write_text("text;n\nq;1\nr,s;2\n")
    found = []
    for separator in (";", ","):
        card = f"---\nconfigs:\n- config_name: default\n  data_files: a.csv\n  sep: '{separator}'\n---\n"
        (tmp_path / "README.md").write_text(card)
        found.append(source(tmp_path).fingerprint(None))
        if separator == ";":
            assert list(source(tmp_path).documents()) == ["q", "r,s"]
    assert found[0] != found[1]
    (tmp_path / "README.md").write_text(card + "More words.\n")
    assert source(tmp_path).fingerprint(None) == found[1]


def test_the_order_of_files_matters_only_to_the_first_documents(datasets, tmp_path):
    def fingerprints():
        return [source(tmp_path / "f", max_documents=limit).fingerprint(None) for limit in (None, 3)]

    write_jsonl(tmp_path / "f" / "a.jsonl", ["one", "two"])
    write_jsonl(tmp_path / "f" / "b.jsonl", ["three", "four"])
    assert list(source(tmp_path / "f", max_documents=3).documents()) == ["one", "two", "three"]
    whole, first = fingerprints()
    (tmp_path / "f" / "a.jsonl").rename(tmp_path / "f" / "c.jsonl")
    assert list(source(tmp_path / "f", max_documents=3).documents()) == ["three", "four", "one"]
    assert fingerprints()[0] == whole
    assert fingerprints()[1] != first


def test_the_first_documents_are_rows_that_hold_text(datasets, tmp_path):
    datasets.Dataset.from_dict({"text": ["", "a", None, "b", "c"]}).save_to_disk(tmp_path / "saved")
    assert list(source(tmp_path / "saved", max_documents=2).documents()) == ["a", "b"]
    assert list(source(tmp_path / "saved", max_documents=9).documents()) == ["a", "b", "c"]


def test_only_the_text_is_read(folder, datasets, monkeypatch):
    """Other columns may hold pictures and sound, slow to decode."""
    wanted = []
    select = datasets.Dataset.select_columns
    monkeypatch.setattr(
        datasets.Dataset, "select_columns", lambda self, names: wanted.append(names) or select(self, names)
    )
    assert next(source(folder / "saved").documents()) == DOCUMENTS[0]
    assert wanted == [["text"]]


@pytest.fixture
def hub(datasets, monkeypatch):
    """A hub that answers for one data set, and notes what it was asked."""
    import huggingface_hub

    asked = []
    rows = datasets.Dataset.from_dict({"text": DOCUMENTS})

    def load(**values):
        asked.append(values)
        return rows.to_iterable_dataset() if values["streaming"] else rows

    def info(_self, name, revision):
        if name != "owner/name":
            raise OSError("404 Not Found")
        return SimpleNamespace(sha=COMMIT if revision is None else f"{revision} resolved")

    told = {"train": SimpleNamespace(num_bytes=1234)}
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(
        datasets,
        "load_dataset_builder",
        lambda _path, name, revision: SimpleNamespace(info=SimpleNamespace(splits=told if name == "told" else None)),
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    return asked


def test_a_data_set_of_the_hub_is_read_at_the_commit_that_names_it(hub, tmp_path):
    data = prepared(tmp_path, settings("owner/name", config="c"))
    assert data.manifest.train_documents + data.manifest.val_documents == len(DOCUMENTS)
    expected = {"path": "owner/name", "revision": COMMIT, "name": "c", "split": "train", "streaming": False}
    assert hub == [expected]
    assert list(source("owner/name", streaming=True, max_documents=3).documents()) == DOCUMENTS[:3]
    assert hub[1]["streaming"] is True


def test_a_data_set_of_the_hub_is_known_by_commit_name_configuration_split_and_field(hub):
    changes = [{}, {"config": "c"}, {"split": "test"}, {"field": "body"}, {"revision": "v1"}, {"max_documents": 5}]
    found = [source("owner/name", **change).fingerprint(None) for change in changes]
    assert len(set(found)) == len(found)
    assert source("owner/name", streaming=True, max_documents=5).fingerprint(None) == found[-1]
    # a commit is its own answer: nobody need be asked
    assert source("owner/name", revision=COMMIT).fingerprint(None) == found[0]
    assert source("owner/other", revision=COMMIT).fingerprint(None) != found[0]
    assert hub == []


@pytest.mark.usefixtures("hub")
def test_the_size_is_what_the_card_tells_or_a_guess():
    assert source("owner/name", config="told").content_bytes() == 1234
    assert source("owner/name", config="told", split="test").content_bytes() == UNKNOWN_BYTES
    assert source("owner/name").content_bytes() == UNKNOWN_BYTES
    assert source("owner/name", max_documents=3).content_bytes() == 3 * DOCUMENT_BYTES


def test_the_size_of_local_data_is_that_of_its_files(folder):
    size = (folder / "files" / "train.jsonl").stat().st_size
    assert source(folder / "files").content_bytes() == size
    assert source(folder / "files", max_documents=10_000).content_bytes() == size


@pytest.mark.usefixtures("hub")
def test_a_name_that_the_hub_does_not_answer_for_is_refused_with_the_way_round():
    message = r"'owner/nme' is no file or folder here, .*\(OSError: 404 Not Found\); .*revision to a commit's 40 digits"
    with pytest.raises(ValueError, match=message):
        identify(settings("owner/nme"))


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        ("saved", {"field": "body"}, r"saved: no column 'body'; it holds 'text', 'n'; set data.source.field"),
        ("files", {"field": "body", "streaming": True, "max_documents": 9}, r"no column 'body'; it holds 'text', 'n'"),
        ("saved", {"field": "n"}, r"saved, row 0: field 'n' must be text, found int"),
        ("both", {"split": "trian"}, r"unknown data.source.split 'trian': did you mean 'train'\? choose from test"),
        ("files", {"split": "trian"}, r"unknown data.source.split 'trian': did you mean 'train'\?"),
        ("both/test", {}, r"data.source.split='train': .*test holds the split 'test' alone"),
        ("saved", {"config": "c"}, r"data.source.config='c': .*saved was saved without configurations; set it to null"),
        ("files", {"config": "c"}, r"files cannot be read: ValueError: .*'c' not found"),
        ("files", {"revision": "v1"}, r"data.source.revision='v1': .* is here, without revisions; set it to null"),
        ("empty", {}, r"empty cannot be read: "),
        ("broken.jsonl", {}, r"broken.jsonl cannot be read: .*JSON"),
        ("broken.jsonl", {"streaming": True, "max_documents": 9}, r"broken.jsonl cannot be read: .*JSON"),
        ("late", {"streaming": True, "max_documents": 9}, r"late cannot be read: .*JSON"),
        ("missing", {}, r"missing does not exist; .* holds both"),
        ("nul.jsonl", {}, r"nul.jsonl, row 1: binary, not text: NUL at character 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(datasets, folder, place, changes, message):
    (folder / "empty").mkdir()
    (folder / "broken.jsonl").write_text('{"text": "x"}\n{"text": \n')
    write_jsonl(folder / "late" / "a.jsonl", ["x", "y"])
    (folder / "late" / "b.jsonl").write_text('{"text": \n')
    (folder / "nul.jsonl").write_text('{"text": "x"}\n{"text": "a\\u0000"}\n')
    named = datasets.Dataset.from_dict({"text": ["x", "y"]}, split="test")
    datasets.DatasetDict(train=named, test=named).save_to_disk(folder / "both")
    with pytest.raises(ValueError, match=message) as caught:
        prepared(folder, settings(folder / place, **changes))
    assert "\n" not in str(caught.value)


def test_a_stream_needs_an_end():
    with pytest.raises(ValueError, match=r"without end: set data.source.max_documents, or data.source.streaming=false"):
        source("owner/name", streaming=True)


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_a_limit_below_two_documents_is_refused(limit):
    with pytest.raises(ValueError, match=rf"data.source.max_documents={limit}: must be at least 2, or null"):
        source("owner/name", max_documents=limit)


@pytest.mark.parametrize("place", ["owner/name", "."])
def test_without_the_extra_the_error_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"data set .* needs datasets \(.*\); pip install 'scaling-experiments\[hf\]'"):
        identify(settings(place))

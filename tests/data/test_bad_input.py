"""What is wrong with an input is said in one line: where, what was found, what would do."""

import pytest

from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.sources import Stdlib
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text


def config(*paths, field="text", tokenizer="bytes", vocab_size=256, val_fraction=0.5) -> DataConfig:
    return DataConfig(Text(tuple(map(str, paths)), field), tokenizer, vocab_size, val_fraction)


def prepared(folder, *paths, **changes):
    settings = config(*paths, **changes)
    return prepare(settings, identify(settings), folder / "cache", progress=False)


def test_a_missing_file_names_its_near_neighbours(tmp_path):
    (tmp_path / "corpus.txt").write_text("a")
    with pytest.raises(ValueError, match=r"corpsu.txt does not exist; .* holds corpus.txt"):
        identify(config(tmp_path / "corpsu.txt"))


def test_a_missing_folder_names_what_its_parent_holds(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"dat/a.txt does not exist; .* holds data"):
        identify(config(tmp_path / "dat" / "a.txt"))


def test_a_path_beside_nothing_says_so(tmp_path):
    with pytest.raises(ValueError, match="is an empty folder"):
        identify(config(tmp_path / "a.txt"))


def test_a_glob_without_a_match_says_what_exists(tmp_path):
    (tmp_path / "notes.md").write_text("a")
    with pytest.raises(ValueError, match=r"\*.txt matches no file; .* holds notes.md"):
        identify(config(tmp_path / "*.txt"))


def test_a_folder_is_refused_with_the_glob_that_would_do(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"is a folder; name its files, for example .*/\*.jsonl"):
        identify(config(tmp_path))


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a")
    with pytest.raises(ValueError, match=r"unknown kind of file '.csv'; choose from .txt, .jsonl, .parquet"):
        identify(config(tmp_path / "a.csv"))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"a.txt is empty \(0 bytes\)"):
        identify(config(tmp_path / "a.txt"))


def test_paths_must_be_a_list():
    for paths in ((), "a.txt"):
        with pytest.raises(ValueError, match="paths must be a list of files or globs"):
            identify(DataConfig(Text(paths, "text"), "bytes", 256, 0.1))


@pytest.mark.parametrize("before", [0, 5, 100_000])
def test_binary_text_names_the_byte(tmp_path, before):
    (tmp_path / "nul.txt").write_bytes(b"a" * before + b"\0" + b"a" * 10)
    with pytest.raises(ValueError, match=f"nul.txt: binary, not text: NUL at byte {before}"):
        prepared(tmp_path, tmp_path / "nul.txt")
    (tmp_path / "latin.txt").write_bytes(b"a" * before + "é".encode("latin-1") + b"a" * 10)
    with pytest.raises(ValueError, match=f"latin.txt: not UTF-8 text: byte {before} is 0xe9"):
        prepared(tmp_path, tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"body": "x", "id": 3}', r"a.jsonl, line 3: no field 'text'; it holds 'body', 'id'"),
        (b'{"text": 7}', r"line 3: field 'text' must be text, found int"),
        (b'{"text": "x"', r"line 3: not JSON: .*delimiter"),
        (b'{"text": ' + b"[" * 100_000, r"line 3: not JSON: "),
        (b"[1]", r"line 3: a line must be a JSON object, found list"),
        (b'{"text": "a\\u0000"}', r"line 3: binary, not text: NUL at character 1 of 'text'"),
        (b'{"text": "\\ud800"}', r"line 3: half a surrogate pair at character 0 of 'text'"),
        (b'{"text": "\xff"}', r"a.jsonl: not UTF-8 text: byte 29 is 0xff"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "first"}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, tmp_path / "a.jsonl")
    assert list((tmp_path / "cache").iterdir()) == []


def test_bad_parquet_is_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "fake.parquet").write_text("no parquet at all, only text")
    with pytest.raises(ValueError, match=r"fake.parquet, row 0: cannot be read as parquet: .*magic"):
        prepared(tmp_path, tmp_path / "fake.parquet")
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet: no column 'text'; it holds 'body', 'n'"):
        prepared(tmp_path, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 0: field 'n' must be text, found int"):
        prepared(tmp_path, tmp_path / "a.parquet", field="n")
    pq.write_table(pa.table({"text": ["fine"] * 2000 + ["a\0"]}), tmp_path / "nul.parquet")
    with pytest.raises(ValueError, match=r"nul.parquet, row 2000: binary"):
        prepared(tmp_path, tmp_path / "nul.parquet")
    content = bytearray((tmp_path / "nul.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.parquet, row 0: cannot be read as parquet"):
        prepared(tmp_path, tmp_path / "broken.parquet")


def test_text_that_is_not_utf8_inside_parquet_is_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array([b"fine", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 1: cannot be read as parquet: .*utf-8"):
        prepared(tmp_path, tmp_path / "a.parquet")


@pytest.mark.parametrize("val_fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_validation_share_outside_zero_to_one_is_refused(val_fraction):
    with pytest.raises(ValueError, match="val_fraction must lie between 0 and 1"):
        identify(DataConfig(Stdlib(), "bytes", 256, val_fraction))


def test_tokenizer_and_source_must_fit():
    with pytest.raises(ValueError, match="unknown tokenizer 'byte': did you mean 'bytes'"):
        identify(DataConfig(Stdlib(), "byte", 256, 0.1))
    tokens = Synthetic(tokens=100, order=1, zipf_exponent=1.0, concentration=1.0, seed=0)
    with pytest.raises(ValueError, match=r"tokenizer 'chars' has nothing to do; set data.tokenizer=none"):
        identify(DataConfig(tokens, "chars", 8, 0.1))
    with pytest.raises(ValueError, match="vocab_size must be at least 2, got 1"):
        identify(DataConfig(tokens, "none", 1, 0.1))
    with pytest.raises(ValueError, match="bytes has 256 ids"):
        identify(DataConfig(Stdlib(), "bytes", 128, 0.1))

"""The cache: whole or absent, made once, safe for many processes and against kills."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.data import cache as cache_module
from scaling.data import files as files_module
from scaling.data.cache import load_tokenizer, manifest, prepared
from scaling.data.files import file_sha256
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.publish import STALE_S
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text
from tests.damage import DAMAGE, flip

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys, time
from pathlib import Path
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.text_files import Text
folder, barrier, me = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
config = DataConfig(Text((str(folder / "*.txt"),), "text"), "chars", 64, 0.3)
spec = identify(config)
(barrier / me).touch()
while len(list(barrier.iterdir())) < 2:
    time.sleep(0.001)
data = prepare(config, spec, folder / "cache", progress=False)
print(len(data.train), int(data.train.astype(int).sum()), data.manifest.digest)
"""
FILES = ("train.bin", "val.bin", "tokenizer.json", "manifest.json")
HANG = """
import sys, time
from pathlib import Path
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.text_files import Text
from scaling.data import prepare as module
folder = Path(sys.argv[1])
config = DataConfig(Text((str(folder / "*.txt"),), "text"), "chars", 64, 0.3)
def hang(*_):
    print("inside", flush=True)
    time.sleep(600)
module._settle = hang
prepare(config, identify(config), folder / "cache", progress=False)
"""


@pytest.fixture
def config(tmp_path) -> DataConfig:
    for index in range(300):
        (tmp_path / f"{index}.txt").write_text(f"text number {index}\n" * 50)
    return DataConfig(Text((str(tmp_path / "*.txt"),), "text"), "chars", 64, 0.3)


@pytest.fixture
def small(tmp_path) -> DataConfig:
    for index in range(10):
        (tmp_path / f"{index}.txt").write_text(f"text number {index}\n" * 50)
    return DataConfig(Text((str(tmp_path / "*.txt"),), "text"), "chars", 64, 0.3)


def worker(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def visible(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_what_is_prepared_is_found_again_without_the_source(config, tmp_path):
    spec, cache = identify(config), tmp_path / "cache"
    assert manifest(spec, cache) is None
    first = prepare(config, spec, cache, progress=False)
    assert manifest(spec, cache) == first.manifest
    assert visible(cache) == [first.manifest.digest]
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "manifest.json",
        "tokenizer.json",
        "train.bin",
        "val.bin",
    ]
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    again = prepare(config, spec, cache, progress=False)
    np.testing.assert_array_equal(again.train, first.train)
    assert again.manifest == first.manifest


def test_every_setting_that_changes_tokens_has_its_own_folder(config, tmp_path):
    changes = [{}, {"tokenizer": "bytes", "vocab_size": 256}, {"vocab_size": 65}, {"val_fraction": 0.4}]
    digests = {
        prepare(changed, identify(changed), tmp_path / "cache", progress=False).manifest.digest
        for changed in (replace(config, **change) for change in changes)
    }
    assert len(digests) == len(changes)


@pytest.mark.usefixtures("config")
def test_two_processes_that_start_at_once_share_one_whole_result(tmp_path):
    for attempt in range(3):
        barrier = tmp_path / f"barrier{attempt}"
        barrier.mkdir()
        workers = [worker(WORKER, tmp_path, barrier, me) for me in "ab"]
        answers = [process.communicate(timeout=60)[0] for process in workers]
        assert [process.returncode for process in workers] == [0, 0]
        assert answers[0] == answers[1]
        digest = answers[0].split()[-1]
        assert visible(tmp_path / "cache") == [digest]
        (tmp_path / "cache").rename(tmp_path / f"done{attempt}")


def test_a_killed_preparation_publishes_nothing_and_is_cleaned_up(config, tmp_path):
    spec, cache = identify(config), tmp_path / "cache"
    process = worker(HANG, tmp_path)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "inside\n"
        process.kill()
        process.wait(timeout=30)
    (left,) = visible(cache)
    assert left.startswith(".")
    assert manifest(spec, cache) is None
    assert visible(cache) == [left]
    made = prepare(config, spec, cache, progress=False)
    assert visible(cache) == [made.manifest.digest]


def test_drafts_of_live_processes_and_recent_ones_of_other_machines_are_left_alone(config, tmp_path):
    import socket

    spec, cache = identify(config), tmp_path / "cache"
    digest = cache_module.digest(spec)
    alive = cache / f".{digest}.{socket.gethostname()}.{os.getpid()}.0"
    recent = cache / f".{digest}.some.other.machine.1.0"
    stale = cache / f".{digest}.some.other.machine.2.0"
    for draft in (alive, recent, stale):
        draft.mkdir(parents=True)
        (draft / "train.bin").touch()
    old = time.time() - STALE_S - 60
    for path in (stale / "train.bin", stale):
        os.utime(path, (old, old))
    prepare(config, spec, cache, progress=False)
    assert visible(cache) == sorted([alive.name, recent.name, digest])


@pytest.mark.parametrize("damage", ["truncate", "unlink", "manifest"])
def test_a_damaged_folder_is_not_used_but_made_again(config, tmp_path, damage):
    spec, cache = identify(config), tmp_path / "cache"
    first = prepare(config, spec, cache, progress=False)
    whole = np.array(first.train)
    if damage == "truncate":
        os.truncate(first.folder / "train.bin", 100)
    elif damage == "unlink":
        (first.folder / "val.bin").unlink()
    else:
        (first.folder / "manifest.json").write_text('{"digest": "')
    assert manifest(spec, cache) is None
    again = prepare(config, spec, cache, progress=False)
    np.testing.assert_array_equal(again.train, whole)
    assert visible(cache) == [first.manifest.digest]


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_every_damage_to_every_file_is_named_and_the_data_made_again(small, tmp_path, file, harm, capfd):
    spec, cache = identify(small), tmp_path / "cache"
    first = prepare(small, spec, cache, progress=False)
    train, val = np.array(first.train), np.array(first.val)
    harm(first.folder / file)
    with pytest.raises(ValueError, match=f"{first.folder / file} is (damaged|missing)"):
        prepared(spec, cache)
    again = prepare(small, spec, cache, progress=False)
    np.testing.assert_array_equal(again.train, train)
    np.testing.assert_array_equal(again.val, val)
    assert again.manifest == first.manifest
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {first.folder / file} is ")
    assert line.endswith("making the data again from its source")
    assert visible(cache) == [first.manifest.digest]


@pytest.mark.parametrize("file", FILES)
def test_damaged_data_whose_source_is_gone_are_refused_by_name(small, tmp_path, file):
    spec, cache = identify(small), tmp_path / "cache"
    first = prepare(small, spec, cache, progress=False)
    flip(first.folder / file)
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    with pytest.raises(ValueError, match=f"{first.folder / file} is damaged: .*cannot be made again .*put back"):
        prepare(small, spec, cache, progress=False)
    assert (first.folder / file).exists()


def test_a_damaged_tokenizer_is_refused_by_whoever_reads_it_alone(small, tmp_path):
    first = prepare(small, identify(small), tmp_path / "cache", progress=False)
    flip(first.folder / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged: its sha256 is \w{12}, not \w{12} as in its man"):
        load_tokenizer(first.manifest, first.folder)


def test_data_from_before_digests_are_used_as_they_are(small, tmp_path, capfd):
    spec, cache = identify(small), tmp_path / "cache"
    first = prepare(small, spec, cache, progress=False)
    values = json.loads((first.folder / "manifest.json").read_text())
    del values["sha256"], values["own_sha256"]
    (first.folder / "manifest.json").write_text(json.dumps(values, indent=1))
    made = (first.folder / "train.bin").stat().st_ino
    again = prepare(small, spec, cache, progress=False)
    assert again.manifest == first.manifest
    assert (first.folder / "train.bin").stat().st_ino == made
    assert capfd.readouterr().err == ""


def test_large_token_files_are_checked_once_and_again_when_they_change(small, tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "REMEMBER_BYTES", 10)
    spec, cache = identify(small), tmp_path / "cache"
    first = prepare(small, spec, cache, progress=False)
    for path in first.folder.iterdir():
        os.utime(path, (1, 1))
    hashed = []

    def hashing(path):
        hashed.append(path.name)
        return original(path)

    original = files_module._hash_file
    monkeypatch.setattr(files_module, "_hash_file", hashing)
    for _ in range(3):
        assert prepared(spec, cache) is not None
    assert sorted(hashed) == sorted(FILES[:3])
    for note in (cache / "fingerprints").iterdir():
        flip(note)
    assert prepared(spec, cache) is not None
    flip(first.folder / "train.bin")
    with pytest.raises(ValueError, match=r"train\.bin is damaged"):
        prepared(spec, cache)


def test_content_that_changed_after_planning_is_refused(config, tmp_path):
    spec = identify(config)
    (tmp_path / "0.txt").write_text("something else")
    with pytest.raises(ValueError, match="the data is not what was planned"):
        prepare(config, spec, tmp_path / "cache", progress=False)
    assert visible(tmp_path / "cache") == []


def test_hashes_of_large_files_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "REMEMBER_BYTES", 10)
    path, memory = tmp_path / "a.txt", tmp_path / "memory"
    path.write_text("a" * 100)
    os.utime(path, (1, 1))
    first = file_sha256(path, memory)
    monkeypatch.setattr(files_module, "_hash_file", lambda path: f"hashed again: {path.name}")
    assert file_sha256(path, memory) == first
    assert file_sha256(path, None) == "hashed again: a.txt"
    path.write_text("b" * 100)
    assert file_sha256(path, memory) == "hashed again: a.txt"


def test_a_memory_that_cannot_be_written_to_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "REMEMBER_BYTES", 10)
    path, memory = tmp_path / "a.txt", tmp_path / "memory"
    path.write_text("a" * 100)
    memory.touch()
    os.utime(path, (1, 1))
    assert file_sha256(path, memory) == file_sha256(path, None)


def test_a_file_written_a_moment_ago_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "REMEMBER_BYTES", 10)
    path, memory = tmp_path / "a.txt", tmp_path / "memory"
    path.write_text("a" * 100)
    file_sha256(path, memory)
    assert not memory.exists()


def test_progress_is_drawn_only_on_a_terminal_when_the_wait_is_long(tmp_path, monkeypatch, capfd):
    from scaling.data import progress as progress_module

    source = Synthetic(tokens=5000, order=1, zipf_exponent=1.0, concentration=1.0, seed=0)
    config = DataConfig(source, "none", 8, 0.5)
    spec = identify(config)
    prepare(config, spec, tmp_path / "quick", progress=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(progress_module, "PATIENCE_S", 0.0)
    prepare(config, spec, tmp_path / "silent", progress=False)
    assert capfd.readouterr() == ("", "")
    prepare(config, spec, tmp_path / "logged", progress=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the captured stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    prepare(config, spec, tmp_path / "slow", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "writing tokens" in err


def test_the_data_package_imports_nothing_heavy():
    heavy = "'torch', 'hydra', 'omegaconf', 'pyarrow', 'tokenizers', 'rich', 'pandas', 'datasets', 'transformers'"
    script = f"import sys, scaling.data.prepare, scaling.data.chunks; print({{{heavy}}} & set(sys.modules))"
    process = worker(script)
    assert process.communicate(timeout=60)[0].strip() == "set()"

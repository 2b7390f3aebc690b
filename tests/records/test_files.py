"""Files on disk: whole or not at all, created once, with the user's permissions, and nothing left lying about."""

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaling.records import files
from scaling.records.files import create_text, has_links, read_json, remove_scratch, scratch_folder, write_json


def no_links(*_: Any) -> None:
    raise PermissionError(1, "Operation not permitted")


def create(path: Path, text: str, links: bool, start: Any, created: Any) -> None:
    start.wait()
    try:
        create_text(path, text, links=links)
        created.put(text)
    except FileExistsError:
        created.put(None)


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_processes_creates_a_file_and_the_file_is_whole(links: bool, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, created = context.Barrier(6), context.Queue()
    texts = [json.dumps({"writer": k, "padding": "x" * 100_000}) for k in range(6)]
    racers = [
        context.Process(target=create, args=(tmp_path / "record.json", text, links, start, created)) for text in texts
    ]
    for racer in racers:
        racer.start()
    winners = [text for _ in racers if (text := created.get(timeout=60)) is not None]
    for racer in racers:
        racer.join()
    assert len(winners) == 1
    assert (tmp_path / "record.json").read_text() == winners[0]
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_reservation_of_a_dead_process_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CREATION_S", 0.05)
    (tmp_path / ".record.json.reserved").mkdir()
    create_text(tmp_path / "record.json", "whole", links=False)
    assert (tmp_path / "record.json").read_text() == "whole"


def test_whether_links_work_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_links(tmp_path)
    monkeypatch.setattr(os, "link", no_links)
    assert not has_links(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_permissions_follow_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        create_text(tmp_path / "b.json", "{}", links=True)
        folder = scratch_folder(tmp_path, "claim")
    finally:
        os.umask(before)
    for path, full in ((tmp_path / "a.json", 0o666), (tmp_path / "b.json", 0o666), (folder, 0o777)):
        assert stat.S_IMODE(path.stat().st_mode) == full & ~umask, path


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from scaling.records.files import *; at = pathlib.Path(sys.argv[1]);"
        "scratch_folder(at, 'claim'); scratch_name(at, 'record.json').write_text('half')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    mine = scratch_folder(tmp_path, "claim")
    elsewhere = tmp_path / ".claim.000000.1.0123456789ab"
    elsewhere.mkdir()
    (tmp_path / ".hidden.by.the.user").touch()
    assert len(os.listdir(tmp_path)) == 5
    remove_scratch(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, elsewhere.name, ".hidden.by.the.user"}
    os.utime(elsewhere, (0, 0))
    remove_scratch(tmp_path)
    assert not elsewhere.exists()


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b'{"a": ', b"\0\0\0\0", b"\xff\xfe{}"])
def test_what_is_no_json_object_reads_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "end.json").write_bytes(content)
    assert read_json(tmp_path / "end.json") is None
    assert read_json(tmp_path / "absent.json") is None

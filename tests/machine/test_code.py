"""The digest of the code that trains."""

from pathlib import Path

import pytest

from scaling.machine import code


def test_a_changed_module_changes_the_digest_and_an_analysis_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    for folder in ("train", "analysis"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("a = 1\n")
    found = []
    for changed in ("", "analysis/a.py", "train/a.py"):
        if changed:
            (tmp_path / changed).write_text("a = 2\n")
        found.append(code.code_digest.__wrapped__())
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 12

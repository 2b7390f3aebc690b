"""The wheel: everything a user without a checkout needs."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from scaling.machine.hardware import versions

ROOT = Path(__file__).parents[1]
CHECKOUT = (str(ROOT), str(ROOT / "scaling" / "plugins"))  # where an editable installation finds its modules


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked where an installation would put it."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling, from the extra test")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def test_the_wheel_holds_configs_sweeps_plugins_and_templates(installed: Path) -> None:
    for folder, into in (("conf", "scaling/conf"), ("sweeps", "scaling/conf/sweep")):
        wanted = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.yaml")}
        assert wanted <= {path.relative_to(installed / into) for path in (installed / into).rglob("*.yaml")}
    assert (installed / "hydra_plugins" / "scaling_isoflop" / "sweeper.py").is_file()
    assert list((installed / "scaling" / "analysis" / "report" / "templates").glob("*.j2"))
    assert not (installed / "analysis").exists()  # a name that is the user's
    assert not (installed / "tests").exists()
    assert not (installed / "scaling" / "plugins").exists()
    assert all((installed / package / "py.typed").is_file() for package in ("scaling", "scaling/analysis"))


def test_the_wheel_has_the_version_that_records_state(installed: Path) -> None:
    (metadata,) = installed.glob("scaling_experiments-*.dist-info/METADATA")
    assert f"\nVersion: {versions()['scaling']}\n" in metadata.read_text()
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest
    assert newest[1] == versions()["scaling"]


def test_the_source_distribution_holds_the_documents_and_the_examples(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building a distribution needs hatchling, from the extra test")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert "analysis/laws/law.py" in held
    wanted = {str(path.relative_to(ROOT)) for folder in ("docs", "examples") for path in (ROOT / folder).glob("*.*")}
    assert wanted | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= held


def test_an_installed_wheel_plans_and_trains_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    run = (
        f"import sys; sys.path[:] = [{str(installed)!r}] + [p for p in sys.path if p not in {CHECKOUT!r}];"
        "import scaling, hydra_plugins.scaling_launcher;"
        f"assert scaling.__file__.startswith({str(installed)!r}), scaling.__file__;"
        "from scaling.cli import main; assert main(['plan', '+sweep=smoke']) == 0;"
        "from scaling.analysis import LAWS; assert LAWS;"
        "sys.exit(main(['train', 'data=synthetic', 'data.source.tokens=100000', 'budget.flops=1e9']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "done, validation loss" in done.stdout

"""The types of the documents: docs/results.md is written from them, and a value that is not of its type is found."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis.schema import describe
from scaling.analysis.schema.document import Results
from tests.analysis.conformance import assert_conforms, misfits
from tests.analysis.simulated import observe, table

ROOT = Path(__file__).resolve().parents[3]
TYPES = [cls for one in describe.DOCUMENTS for cls in describe.types_of(one.roots)]


def test_the_committed_page_is_what_the_types_say() -> None:
    assert (ROOT / "docs" / "results.md").read_text() == describe.page()


@pytest.mark.parametrize("cls", dict.fromkeys(TYPES), ids=lambda cls: cls.__name__)
def test_every_type_and_every_field_has_a_meaning(cls: Any) -> None:
    assert cls.__doc__
    assert [field.name for field in describe.fields(cls) if not field.meaning] == []


def test_no_two_types_share_a_name() -> None:
    assert len({cls.__name__ for cls in TYPES}) == len(set(TYPES))


def test_types_in_words() -> None:
    assert describe.words(list[float | None] | None) == "[number or null] or null"
    assert describe.words(dict[str, bool]) == "{name: true or false}"
    assert describe.words(Results) == "[Results](#results)"


def test_the_types_start_fast() -> None:
    code = (
        "import sys; from scaling.analysis.schema import document, finetuning, tuning; "
        "sys.exit(bool({'numpy', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from scaling.analysis.results.document import analyse

    return analyse(observe(table(noise_nats=0.01), tmp_path_factory.mktemp("schema")), bootstrap=20)


def test_a_real_document_conforms(results: Any) -> None:
    assert_conforms(results, Results)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda results: results.pop("cost"), ".cost is missing from Results"),
        (lambda results: results["settings"].update(level="95%"), ".settings.level: '95%' is no float"),
        (lambda results: results["settings"].update(seed=True), ".settings.seed: True is no int"),
        (lambda results: results["settings"].update(errors="none"), ".settings.errors: 'none' is none of"),
        (lambda results: results["isoflop"].update(extra=1), ".isoflop.extra is not a field of IsoflopSection"),
        (lambda results: results["isoflop"]["budgets"][1].update(n=None), ".isoflop.budgets[1].n: None is no int"),
        (lambda results: results["observations"]["loss"].append(None), ".observations.loss[28]: None is no float"),
        (lambda results: results["fits"][0]["draws"].pop("names"), ".fits[0].draws.names is missing from Draws"),
    ],
)
def test_what_does_not_conform_is_found_at_its_place(results: Any, change: Any, place: str) -> None:
    changed = copy.deepcopy(results)
    change(changed)
    assert any(line.startswith(place) for line in misfits(changed, Results))

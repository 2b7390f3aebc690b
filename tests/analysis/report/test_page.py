"""report.html: self-contained, escaped, honest about what is missing."""

import copy
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis import figures, words
from scaling.analysis.figures import legends, paper_marks, web
from scaling.analysis.figures.chart import BLACK, Absent, Chart
from scaling.analysis.judgement import forecast
from scaling.analysis.report import calculator, prose
from scaling.analysis.report import page as report
from scaling.analysis.report.blocks import Section, Table
from scaling.analysis.results.run_words import run_words
from tests.analysis import simulated
from tests.analysis.conformance import analyse

Results = dict[str, Any]
HOSTILE = """<script>alert(1)</script>"'&</td><img src=x onerror="document.title='owned'">"""
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def hostile(results: Results) -> Results:
    """The same document with every name from data turned into markup."""
    changed = copy.deepcopy(results)
    changed["source"] = [HOSTILE]
    changed["conventions"] = {name: f"{said} {HOSTILE}" for name, said in changed["conventions"].items()}
    changed["observations"]["run_id"] = [f"{HOSTILE}{k}" for k in changed["observations"]["row"]]
    changed["observations"]["group"] = [HOSTILE for _ in changed["observations"]["row"]]
    changed["excluded"] = [{"row": 1, "run_id": HOSTILE, "reason": HOSTILE}]
    changed["warnings"] = [HOSTILE, *changed["warnings"]]
    changed["notes"] = [HOSTILE]
    for grade in changed["registered"]["entries"]:
        grade["words"] = grade["forecast"]["method"]["name"] = HOSTILE
    for run in changed["influence"]["runs"]:
        run["run"] = HOSTILE
    for curve in changed["curves"]:
        curve["run_id"] = HOSTILE + "\u2028</script>"
    changed["envelope"]["run_id"] = [HOSTILE for _ in changed["envelope"]["run_id"]]
    for diagnostic in changed["health"].values():
        diagnostic["verdict"] = HOSTILE
        if "runs" in diagnostic:
            diagnostic["runs"]["run_id"] = [HOSTILE for _ in diagnostic["runs"]["run_id"]]
    return changed


@pytest.fixture(scope="module")
def written(hostile: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write_report(hostile, tmp_path_factory.mktemp("report"))


class Page(html.parser.HTMLParser):
    """Elements, their attributes and the text of a page, apart from scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside in ("script", "style") else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def render(results: Results) -> str:
    """The page without writing figures to disk."""
    return report.render(results, {name: make(results) for name, make in figures.CHARTS.items()}, {})


def plotless(page: str) -> str:
    """The page without plotly's own source."""
    return re.sub(r"<script>/\*\*\s*\* plotly.*?</script>", "", page, flags=re.DOTALL)


def test_every_figure_lies_beside_the_page_in_three_formats_and_is_linked(written: Path) -> None:
    page = Page(written.read_text())
    links = {one["href"] for tag, one in page.elements if tag == "a" and not (one["href"] or "").startswith("#")}
    assert links == {f"figures/{name}.{kind}" for name in figures.FIGURES for kind in ("png", "svg", "pdf")}
    assert all((written.parent / str(link)).stat().st_size > 1000 for link in links)
    assert list(written.parent.glob(".report*")) == []


def test_the_page_loads_nothing(written: Path) -> None:
    page = Page(written.read_text())
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        if "href" in attributes:
            assert re.match(r"#|figures/|data:,$", attributes["href"] or ""), tag
    own = plotless(written.read_text())
    assert len(own) < 3_000_000
    assert not re.search(r"https?:|@import|url\(|//cdn", own.replace(HOSTILE, ""))
    policy = next(one["content"] for tag, one in page.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy


def test_names_from_data_are_text_and_never_markup(written: Path) -> None:
    page = Page(written.read_text())
    scripts = [one for tag, one in page.elements if tag == "script"]
    assert len(scripts) == 6
    assert not any(tag == "img" for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("<script>alert(1)</script>") > 50
    assert "alert(1)</script>" not in plotless(written.read_text())
    data = next(text for text in page.scripts if text.startswith('{"isoflop"'))
    assert not set(data) & set("<>&\u2028\u2029")
    drawn = json.loads(data)["training_curves"]["panels"][0]["data"]
    assert "&lt;script&gt;" in drawn[0]["hovertext"]
    assert "<script" not in json.dumps(drawn)


def test_json_in_a_script_cannot_end_it() -> None:
    value = ["</script>", "<!--", "\u2028\u2029", "&amp;", 'quote "', "名"]
    text = calculator.script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_warnings_come_first_then_the_answer_then_the_sections_in_order(results: Results) -> None:
    changed = copy.deepcopy(results)
    changed["warnings"] = ["a minimum lies on the edge", "a second thing"]
    text = render(changed)
    order = [
        f'id="{name}"'
        for name in (
            "answer",
            "registered",
            "isoflop",
            "allocation",
            "what-if",
            "predicted",
            "loss-laws",
            "surface",
            "residuals",
            "rollout",
        )
    ]
    order += [f'id="{name}"' for name in ("choices", "influence", "envelope", "health", "fits", "data", "settings")]
    places = [text.index(mark) for mark in ["a minimum lies on the edge", "a second thing", *order]]
    assert places == sorted(places)


def test_the_answer_holds_the_target_with_intervals(results: Results) -> None:
    target = results["forecast"]["at_target"]
    (sentence,) = prose.answer(results).lead
    for name in ("params", "tokens"):
        for end in ("value", "low", "high"):
            assert words.count(target[name][end]) in sentence
    assert f"{target['loss']['value']:.3f}" in sentence
    assert prose.answer(results).calibrated == (target["calibrated"] and not results["warnings"])


def test_what_is_not_identified_has_no_number(results: Results) -> None:
    changed = copy.deepcopy(results)
    entry = changed["fits"][0]
    entry["params"]["E"] = 1.234567
    entry["intervals"]["E"] = {"low": 0.0, "high": 2.5, "level": 0.95, "method": "profile"}
    entry["identification"]["E"] = {"kind": "weakly_identified", "sentence": "E is weakly identified: from 0 to 2.5"}
    text = Page(render(changed)).text
    assert "1.23" not in text
    assert "E is weakly identified: from 0 to 2.5" in text
    entry["identification"]["E"] = {"kind": "identified", "sentence": ""}
    assert "1.235" in Page(render(changed)).text


def test_a_bare_analysis_says_what_is_missing(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(noise_nats=0.01), tmp_path)
    results = analyse(observed, bootstrap=0, holdout=None)
    text = Page(render(results)).text
    assert text.count("Not drawn:") == sum(isinstance(make(results), Absent) for make in figures.CHARTS.values()) >= 5
    assert "(no interval)" in text
    assert "no resamples were drawn" in text


def test_one_budget_and_no_law_of_both_is_reported(tmp_path: Path) -> None:
    observed = simulated.observe(simulated.table(noise_nats=0.01, budgets=(1e15,)), tmp_path)
    results = analyse(observed, laws=("chinchilla", "power:N"), bootstrap=5)
    text = Page(render(results)).text
    assert "one compute budget only" in text
    assert "chinchilla was not fitted" in text
    assert "Not offered: no fitted law" in text


def test_long_tables_are_cut_and_say_so(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaling.analysis.report import tables

    monkeypatch.setattr(tables, "MOST_ROWS", 5)
    table = tables.observations(results)
    assert len(table.rows) == 5
    assert f"5 of {len(results['observations']['row'])}" in table.note


def test_the_forecasters_stand_beside_the_headline_and_no_badge_is_green_under_a_warning(averaged: Results) -> None:
    calm = {**averaged, "warnings": []}
    target = averaged["forecast"]["at_target"]
    assert target is not None
    assert target["calibrated"]
    html = render(calm)
    for member in target["members"]:
        assert member["name"] in html
    assert 'class="badge good"' in html
    warned = render({**averaged, "warnings": ["look here"]})
    assert 'class="badge good"' not in warned
    assert "Read the warnings at the top first." in warned
    assert calculator.what_if_facts({**averaged, "warnings": ["look here"]})["warned"]


PRESSES = """
const ask = document.querySelector("[name=flops]");
ask.value = "1e24";
ask.dispatchEvent(new Event("input"));
window.dispatchEvent(new Event("beforeprint"));
document.querySelector(".legend button").click();
const names = performance.getEntriesByType("resource").map((one) => one.name);
const loaded = names.filter((name) => !/^(data|blob):/.test(name));
document.documentElement.dataset.loaded = loaded.join(" ");
document.querySelectorAll("thead button").forEach((one) => (one.click(), one.click()));
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the report with")
def test_a_real_browser_draws_every_panel_without_errors_or_requests(
    written: Path, hostile: Results, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--window-size=1280,900",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
    ]  # fmt: skip
    page = tmp_path / "report.html"
    page.write_text(written.read_text().replace("</body>", f"<script>{PRESSES}</script></body>"))
    done = subprocess.run([CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert "<title>Scaling report: " in done.stdout
    assert "owned</title>" not in done.stdout
    panels = re.findall(r'<div class="panel[ "][^>]*>', done.stdout)
    assert len(panels) == sum(panel is not None for make in figures.CHARTS.values() for panel in make(hostile).panels)  # type: ignore[union-attr]
    assert all("js-plotly-plot" in panel for panel in panels)
    shown = dict(re.findall(r'data-out="(\w+)"[^>]*>([^<]*)<', done.stdout))
    far = forecast.predict(hostile, flops=1e24)
    assert shown["params"] == words.count(far["params"]["value"])
    assert shown["loss"] == f"{far['loss']['value']:.4f}"
    assert shown["trust"].startswith("Out of the calibrated range: ")
    assert 'aria-sort="descending"' in done.stdout
    assert 'aria-pressed="false"' in done.stdout
    assert 'data-loaded=""' in done.stdout


def test_every_panel_and_table_has_words_for_a_screen_reader(results: Results) -> None:
    page = Page(render(results))
    panels = [one for _, one in page.elements if (one.get("class") or "") == "panel"]
    assert len(panels) > 10
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 8 for one in panels)
    assert panels[1]["aria-label"] == "IsoFLOP curves: validation loss, nats per token against non-embedding parameters"
    tables = [one for _, one in page.elements if (one.get("class") or "") == "scroll"]
    assert all(one["aria-label"] and one["tabindex"] == "0" for one in tables)


def test_a_section_without_content_has_no_heading(results: Results) -> None:
    changed = copy.deepcopy(results)
    changed["excluded"] = []
    text = render(changed)
    for heading in re.findall(r"<h[23]>[^<]*</h[23]>\s*(?:<h[23]>|</section>)", text):
        assert re.fullmatch(r"<h2>[^<]*</h2>\s*<h3>", heading), heading
    assert not Section("data", "Data", tables=[Table("empty", (), ())]).words
    assert Section("data", "Data", tables=[Table("empty", (), ())]).is_empty
    assert not Section("data", "Data", tables=[Table("empty", (), (), "a note")]).is_empty


def test_exponents_are_superscripts_wherever_they_are_read(results: Results) -> None:
    assert words.raised("A / N^alpha + B / D^0.285 at C^-1.5, N^x and (a)^(b)") == (
        "A / Nᵅ + B / D⁰·²⁸⁵ at C⁻¹·⁵, N^x and (a)^(b)"
    )
    assert words.raised("D^0.5±0.1 N^γ C^alpha_N") == "D^0.5±0.1 Nᵞ C^alpha_N"
    text = Page(render(results)).text
    assert "Nᵅ" in text
    assert not re.search(r"\^[−\d]", text)
    assert web.text("C^0.5 <") == "C⁰·⁵ &lt;"
    assert paper_marks.plain("C^0.5") == "C⁰·⁵"


def test_the_legend_explains_the_star(results: Results) -> None:
    chart = figures.CHARTS["isoflop"](results)
    assert isinstance(chart, Chart)
    (star,) = [entry for entry in legends.legend(chart) if entry.marker == "star" and entry.filled]
    assert (star.label, star.color) == ("minimum", BLACK)


def test_influential_runs_are_named_by_size_and_budget(results: Results) -> None:
    assert results["influence"] is not None
    run = results["influence"]["runs"][0]["run"]
    place = results["observations"]["run_id"].index(run)
    size = words.count(results["observations"]["params"][place])
    chart = figures.CHARTS["influence"](results)
    assert isinstance(chart, Chart)
    (panel,) = chart.panels
    assert panel is not None
    assert re.fullmatch(rf"{re.escape(size)}, \S+ FLOPs(, \S+)?", panel.y.names[0])
    assert run_words(results, "no such run") == "no such run"

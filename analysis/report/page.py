"""results.json -> report.html: one self-contained page that leads with warnings, then the answer, then the evidence.

No number is typed here: each comes from the results document, in words by `words`. Text from data is escaped by
the template (HTML), by `script_json` (data in script elements) and by `figures.web` (plotly).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.analysis.report import prose as words
from scaling.analysis.report.blocks import Figure, Link, WhatIf
from scaling.analysis.report.calculator import formulas_js, script_json, what_if_facts
from scaling.analysis.report.facts import WhatIfFacts
from scaling.analysis.schema.document import Results
from scaling.analysis.words import raised
from scaling.records.files import write_text

if TYPE_CHECKING:
    from scaling.analysis.figures.chart import Absent, Chart, Panel
    from scaling.analysis.figures.pages import Page
    from scaling.analysis.figures.web import Figure as Drawn

TEMPLATES = Path(__file__).parent / "templates"
FIGURES_DIR = "figures"
LEAST_PANEL = {1: 320, 2: 320, 3: 270}  # pixels of width below which a panel goes to a row of its own
LEAST_SMALL_PANEL = 128
LEADING = ("answer", "what-if")  # sections whose words the template has of its own
# Shapes of a legend's markers, as paths in a 22 × 12 box.
SHAPES = {
    "square": "M7 2h8v8h-8z",
    "diamond": "M11 1l5 5l-5 5l-5 -5z",
    "up": "M11 1.5l5 9h-10z",
    "down": "M11 10.5l5 -9h-10z",
    "left": "M6 6l9 -5v10z",
    "right": "M16 6l-9 -5v10z",
    "pentagon": "M11 1l5 3.8l-2 5.7h-6l-2 -5.7z",
    "cross": "M7 2l8 8M15 2l-8 8",
    "star": "M11 0.5l1.5 3.7l4 .3l-3.1 2.6l1 3.9l-3.4 -2.1l-3.4 2.1l1 -3.9l-3.1 -2.6l4 -.3z",
}


def write_report(results: Results, out_dir: Path, on: "Page | None" = None, at_once: int = 1) -> Path:
    """Write out_dir/report.html and every figure under out_dir/figures as png, svg and pdf; returns the page's path.

    `on` is the printed page that the figures are for; `at_once` processes draw them (`paper.save_all` has its terms).
    """
    from scaling.analysis import figures
    from scaling.analysis.figures import paper
    from scaling.analysis.figures.pages import PAGE

    charts = {name: make(results) for name, make in figures.CHARTS.items()}
    files = paper.save_all(charts, out_dir / FIGURES_DIR, on or PAGE, at_once)
    return write_page(render(results, charts, files), out_dir)


def write_page(page: str, out_dir: Path) -> Path:
    """Write out_dir/report.html whole or not at all; returns its path."""
    path = out_dir / "report.html"
    write_text(path, page)
    return path


def render(results: Results, charts: Mapping[str, "Chart | Absent"], files: Mapping[str, list[Path]]) -> str:
    """Return the page as text; `files` holds the saved figures by name, linked relative to the page."""
    facts = what_if_facts(results)
    return fill(
        "report.html.j2",
        charts,
        files,
        facts,
        title=", ".join(Path(source).name for source in results["source"]),
        sources=", ".join(results["source"]),
        scope=words.scope(results),
        schema=results["schema"],
        conventions=results["conventions"],
        warnings=results["warnings"],
        answer=words.answer(results),
        what_if=None
        if facts is None
        else WhatIf(f"{facts['target_flops']:.4g}".replace("e+", "e"), words.what_if_words(results, facts["repeats"])),
        no_what_if="no fitted law of parameters and tokens has a compute optimum",
        sections=[section for section in words.sections(results) if section.id in LEADING or not section.is_empty],
    )


def fill(
    template: str,
    charts: Mapping[str, "Chart | Absent"],
    files: Mapping[str, list[Path]],
    facts: WhatIfFacts | None,
    **own: object,
) -> str:
    """Return a template's page: its `own` words beside the figures, styles and scripts that every page holds."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from scaling.analysis.figures import web
    from scaling.analysis.figures.chart import Chart

    drawn = {name: web.figure(chart) for name, chart in charts.items() if isinstance(chart, Chart)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: raised(value) if type(value) is str else value,  # no script or style, which is Markup
    )
    raw = {
        name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
        for name in ("report.css", "figures.js", "what_if.js")
    }
    return environment.get_template(template).render(
        **own,
        figures={name: _figure(name, chart, drawn, files) for name, chart in charts.items()},
        shapes=SHAPES,
        css=raw["report.css"],
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures_json=Markup(script_json(drawn)),
        facts_json=Markup(script_json(facts)),
        figures_js=raw["figures.js"],
        what_if_js=raw["what_if.js"] + Markup(formulas_js(facts) if facts else ""),
    )


def _figure(
    name: str, chart: "Chart | Absent", drawn: Mapping[str, "Drawn"], files: Mapping[str, list[Path]]
) -> Figure:
    from scaling.analysis.figures import legends
    from scaling.analysis.figures.chart import Absent

    if isinstance(chart, Absent):
        return Figure(chart.title, chart.why)
    return Figure(
        title=chart.title,
        absent="",
        caption=chart.caption,
        below=chart.below,
        legend=legends.legend(chart),
        scale=legends.scale(chart),
        matrix=chart.matrix,
        columns=chart.columns,
        least=LEAST_PANEL.get(chart.columns, LEAST_SMALL_PANEL),
        heights=[panel["height"] if panel else None for panel in drawn[name]["panels"]],
        spoken=[_spoken(chart, panel) for panel in chart.panels],
        files=[Link(path.suffix[1:], f"{FIGURES_DIR}/{path.name}") for path in files.get(name, [])],
    )


def _spoken(chart: "Chart", panel: "Panel | None") -> str:
    """A panel in words, for those who hear the page: its title, and the quantities of its axes."""
    if panel is None:
        return ""
    x, y = panel.x.label or chart.below, panel.y.label
    axes = f"{y} against {x}" if x and y else x or y
    return ": ".join(filter(None, [chart.title, panel.title, axes]))

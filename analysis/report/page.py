"""results.json -> report.html: one self-contained page that leads with warnings, then the answer, then the evidence.

No number is typed here: each comes from the results document, in words by `words`. Text from data is escaped by
the template (HTML), by `script_json` (data in script elements) and by `figures.web` (plotly).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.analysis.report import prose as words
from scaling.analysis.report.blocks import Figure, Link, WhatIf
from scaling.analysis.report.facts import FormFacts, MeanFacts, PowerLawFacts, RepeatFacts, WhatIfFacts
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import EnsembleSection
from scaling.analysis.schema.fits import NO_RESAMPLES, FitEntry, no_interval
from scaling.analysis.schema.isoflop import PowerLawEntry
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


def write_report(results: Results, out_dir: Path, on: "Page | None" = None) -> Path:
    """Write out_dir/report.html and every figure under out_dir/figures as png, svg and pdf; returns the page's path.

    `on` is the printed page that the figures are for.
    """
    from scaling.analysis import figures
    from scaling.analysis.figures import paper
    from scaling.analysis.figures.pages import PAGE

    charts = {name: make(results) for name, make in figures.CHARTS.items()}
    return write_page(render(results, charts, paper.save_all(charts, out_dir / FIGURES_DIR, on or PAGE)), out_dir)


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


def script_json(value: object) -> str:
    """JSON that cannot end a script element or a line of one: no <, >, &, U+2028 or U+2029 outside escapes."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def what_if_facts(results: Results) -> WhatIfFacts | None:
    """Return the calculator's numbers: laws that the forecast rests on, and the terms of its intervals."""
    from scaling.analysis.judgement.forecast import REACH_SLACK

    settings = results["forecast"]
    if not settings["forms"] or settings["at_target"] is None:
        return None
    fits = {entry["name"]: entry for entry in results["fits"]}
    lead, section = fits[settings["forms"][0]], settings.get("ensemble")
    laws = results["isoflop"]["laws"]["parabola"] if results["isoflop"] is not None else {}
    why = no_interval(lead) if lead["status"] != "refused" else ""
    if section is not None:
        why = NO_RESAMPLES if results["settings"]["bootstrap"] == 0 else ""
    return {
        "mean": None if section is None else _mean(results, section),
        "warned": bool(results["warnings"]),
        "forms": _forms(results) if section is None else _near_surfaces(results, section),
        "isoflop": {
            name: _power_law(law) for name, law in laws.items() if law["exponent"] is not None and law["band"]["low"]
        },
        "cost": {"k": results["cost"]["k"], "gamma": results["cost"]["gamma"]},
        "range": results["range"],
        "level": results["settings"]["level"],
        "no_interval": why,
        "target_flops": settings["at_target"]["flops"],
        "z": settings["z"],
        "noise_sd_log": settings["noise_sd_log"] or 0.0,
        "factors": {name: settings["calibration"][name]["factor"] or 1.0 for name in ("loss", "params")},
        "reach_decades": settings["reach_decades"] if section is None else section["reach_decades"],
        "reach_slack": REACH_SLACK,
        "repeats": _repeats(fits),
    }


def _forms(results: Results) -> list[FormFacts]:
    """Return the laws that were asked for, the leading one first and with its draws."""
    fits = {entry["name"]: entry for entry in results["fits"]}
    forms: list[FormFacts] = []
    for k, name in enumerate(results["forecast"]["forms"]):
        entry = fits[name]
        names = list(entry["params"])
        draws = entry["draws"] if k == 0 else None
        order = [draws["names"].index(one) for one in names] if draws else []
        forms.append(
            {
                "law": entry["law"],
                "near": _near(results, entry["law"], entry["params"]),
                "names": names,
                "values": list(entry["params"].values()),
                "draws": [[row[j] for j in order] for row in draws["values"]] if draws else [],
            }
        )
    return forms


def _near_surfaces(results: Results, section: EnsembleSection) -> list[FormFacts]:
    """Return the laws of N and D among the forecasters."""
    return [
        {
            "law": one["law"],
            "near": _near(results, one["law"], one["values"]),
            "names": list(one["values"]),
            "values": list(one["values"].values()),
            "draws": [],
        }
        for one in section["members"]
        if one["law"] is not None
    ]


def _mean(results: Results, section: EnsembleSection) -> MeanFacts:
    """Return the power laws among the forecasters, and the terms of the log mean's intervals."""
    from scaling.analysis.judgement.ensemble import growth_of

    level = results["settings"]["level"]
    return {
        "powers": [
            {"params": one["powers"]["params"], "loss": one["powers"]["loss"]}
            for one in section["members"]
            if one["law"] is None
        ],
        "half_width": {name: growth_of(section, name).half_width(1.0, level) for name in section["growth"]},
        "least_horizon_decades": section["least_horizon_decades"],
        "noise_sd_nats": section["noise_sd_nats"] or 0.0,
    }


def _near(results: Results, law: str, values: Mapping[str, float | None]) -> list[float] | None:
    """Tokens per parameter between which the law's optimum is searched; None where it has a closed form."""
    from scaling.analysis.laws import LAWS
    from scaling.analysis.laws.law import REACH, build

    least, most = results["range"]["tokens_per_param"]
    return None if build(LAWS[law], values).rival_terms else [least / REACH, most * REACH]


def formulas_js(facts: WhatIfFacts) -> str:
    """Return JavaScript that defines FORMULAS: the law of every form, and the effective tokens of repeats.

    Each is a function of (p, x), parameters and variables by name, written from its Python. No text of it holds "<".
    """
    from scaling.analysis.laws import LAWS, coupled, javascript

    def effective(p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:  # expressions, in the place of numbers
        return coupled.effective(x["D"], x["U"], p["R_D_star"])

    def function(body: str) -> str:
        return f"(p, x) => {{\n{body}\n}}"

    laws = ",\n".join(
        f"{script_json(name)}: {function(javascript.javascript(LAWS[name]))}"
        for name in dict.fromkeys(form["law"] for form in facts["forms"])
    )
    of_repeats = function(javascript.body(effective, ["R_D_star"], ["D", "U"]))
    return f"\nconst FORMULAS = {{\nlaws: {{\n{laws}\n}},\neffective: {of_repeats}\n}};\n"


def _power_law(law: PowerLawEntry) -> PowerLawFacts:
    return {
        "floor": law["floor"],
        "coefficient": law["coefficient"],
        "exponent": law["exponent"],
        "flops": law["band"]["flops"],
        "low": law["band"]["low"],
        "high": law["band"]["high"],
    }


def _repeats(fits: Mapping[str, FitEntry]) -> RepeatFacts:
    """Return the constant R_D* of repeated tokens and its source in words: a fit of the results, else the paper."""
    from scaling.analysis.laws import LAWS

    fitted = next(
        (one for one in fits.values() if one["law"] == "data_constrained" and one["status"] == "converged"), None
    )
    if fitted is not None:
        value = fitted["params"]["R_D_star"]
        words = f"R_D* = {value:.3g} from the {fitted['name']} fit, which no roll-out checked"
        return {"R_D_star": value, "words": words}
    law = LAWS["data_constrained"]
    value = law.example["R_D_star"]
    return {
        "R_D_star": value,
        "words": f"R_D* = {value:.4g} as published ({law.source.partition(';')[0]}), which these runs did not measure",
    }

"""The page's calculator: the numbers of `what_if.js`, and the laws as JavaScript written from their Python."""

import json
from collections.abc import Mapping
from typing import Any

from scaling.analysis.figures.elements import bits_of
from scaling.analysis.report.facts import FormFacts, MeanFacts, PowerLawFacts, RepeatFacts, WhatIfFacts
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import EnsembleSection
from scaling.analysis.schema.fits import NO_RESAMPLES, FitEntry, no_interval
from scaling.analysis.schema.isoflop import PowerLawEntry


def script_json(value: object) -> str:
    """JSON that cannot end a script element or a line of one: no <, >, &, U+2028 or U+2029 outside escapes."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def what_if_facts(results: Results) -> WhatIfFacts | None:
    """Return the calculator's numbers: laws that the forecast rests on, and the terms of its intervals."""
    from scaling.analysis.judgement.forecast import REACH_SLACK, doubt_of

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
        "cost": {
            "k": results["cost"]["k"],
            "gamma": results["cost"]["gamma"],
            "limit": results["cost"].get("limit", 0.0),
        },
        "range": results["range"],
        "level": results["settings"]["level"],
        "no_interval": why,
        "doubt": doubt_of(results),
        "target_flops": settings["at_target"]["flops"],
        "z": settings["z"],
        "noise_sd_log": settings["noise_sd_log"] or 0.0,
        "factors": {name: settings["calibration"][name]["factor"] or 1.0 for name in ("loss", "params")},
        "reach_decades": settings["reach_decades"] if section is None else section["reach_decades"],
        "reach_slack": REACH_SLACK,
        "repeats": _repeats(fits),
        "bits_of_nat": bits_of(results),
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

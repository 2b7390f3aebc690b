"""The answer at the target in a results document: its laws, its trust, and the share of choice in it."""

from collections.abc import Mapping, Sequence

from scaling.analysis.judgement.choices import influence, multiverse, spread
from scaling.analysis.judgement.forecast import REJECTED_DELTA_AICC, predict_optimum
from scaling.analysis.judgement.holdout import Z_LEVEL, aicc, calibrate, noise_sd
from scaling.analysis.judgement.serving import serving_section
from scaling.analysis.judgement.spread import Form
from scaling.analysis.results.holdout import RollOut
from scaling.analysis.results.requested_fits import Fitted
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.forecast import ForecastSection
from scaling.analysis.schema.judgement import ChoicesSection, InfluenceSection
from scaling.analysis.schema.numbers import number


def forms_of_fits(surfaces: Mapping[str, Fitted], order: Sequence[str]) -> list[Form]:
    """The laws with an optimum that the data do not reject, in the order given: the best predictor first.

    Where the verdict rejects all, all stay.
    """
    with_optimum = []
    for name in order:
        one = surfaces[name]
        try:
            one.fit.law.optimum(float(one.observations.column("flops").max()), one.observations.cost)
        except ValueError:
            continue
        if one.fit.status != "did_not_converge":
            with_optimum.append(name)
    if not with_optimum:
        return []
    standing = [name for name in with_optimum if not surfaces[name].verdict.rejected] or with_optimum
    least = aicc(surfaces[standing[0]].fit)
    kept = [name for name in standing if aicc(surfaces[name].fit) - least <= REJECTED_DELTA_AICC]
    drawn = {name: surfaces[name].resamples for name in kept}
    return [Form(name, surfaces[name].fit.law, None if (r := drawn[name]) is None else r.law) for name in kept]


def forecast_section(forms: Sequence[Form], surfaces: Mapping[str, Fitted], rolled: RollOut) -> ForecastSection:
    """The basis of a prediction, as yet without the one at the target."""
    if not forms:
        return {
            "forms": [],
            "calibration": {},
            "reach_decades": 0.0,
            "noise_sd_log": None,
            "z": Z_LEVEL,
            "at_target": None,
        }
    lead = forms[0].name
    loss, params = calibrate(rolled.scores, lead, "loss"), calibrate(rolled.scores, lead, "params")
    return {
        "forms": [form.name for form in forms],
        "calibration": {"loss": loss, "params": params},
        "reach_decades": loss["reach_decades"],
        "noise_sd_log": number(noise_sd(surfaces[lead].fit)),
        "z": Z_LEVEL,
        "at_target": None,
    }


def influence_section(lead: Fitted, target_flops: float) -> InfluenceSection:
    """The influence of single runs on the leading law's optimum at the target."""
    law = lead.fit.law
    return {
        "law": law.name,
        "target_flops": target_flops,
        "params": float(law.optimum(target_flops, lead.observations.cost).N),
        "runs": influence(lead.observations, lead.fit, lead.variables, target_flops),
    }


def choices_section(lead: Fitted, target_flops: float) -> ChoicesSection:
    """The leading law's optimum at the target under every combination of defensible choices."""
    rows = multiverse(lead.observations, lead.fit, lead.variables, target_flops)
    return {"law": lead.fit.law.name, "target_flops": target_flops, "rows": rows, "spread": spread(rows)}


def answer(results: Results) -> None:
    """Enter the prediction at the target, and the cheapest model of its loss, where the results have a law for it."""
    target = results["settings"]["target_flops"]
    if results["forecast"]["forms"] and target is not None:
        results["forecast"]["at_target"] = predict_optimum(results, target)
        results["serving"] = serving_section(results)

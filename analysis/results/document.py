"""results.json: assemble, write and read the document of all that the analysis found. Nothing downstream fits.

`scaling.analysis.schema.document` holds the document's types, and docs/results.md describes every field.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.health import seed_noise
from scaling.analysis.health.collapse import collapse_section
from scaling.analysis.health.noise_scale import noise_scale_section
from scaling.analysis.health.seed_noise import SeedNoise, seed_noise_section
from scaling.analysis.isoflop import frontiers
from scaling.analysis.judgement.holdout import FEW_RESAMPLES, LEVEL, RESAMPLES
from scaling.analysis.judgement.prices import prices_section
from scaling.analysis.laws.held import Bounds
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.results import observations as rows
from scaling.analysis.results.ensemble import let_forecasters_answer
from scaling.analysis.results.fits import fits_section
from scaling.analysis.results.forecast import (
    answer,
    choices_section,
    forecast_section,
    forms_of_fits,
    influence_section,
)
from scaling.analysis.results.ground_truth import ground_truth_section
from scaling.analysis.results.holdout import holdout_section, roll_out
from scaling.analysis.results.isoflop import isoflop_section, measure_minima
from scaling.analysis.results.request import Request, parse_laws, settings_section
from scaling.analysis.results.requested_fits import fit_all
from scaling.analysis.results.summary import rejections, summary, warnings_of
from scaling.analysis.results.training_curves import curves_section, envelope_section
from scaling.analysis.runs.comparable import refuse_mixture
from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.pooling import explaining_warnings
from scaling.analysis.runs.settings import varying_warning
from scaling.analysis.schema.document import Holdout, Results
from scaling.analysis.schema.fits import FitEntry
from scaling.analysis.schema.health import HealthSection
from scaling.analysis.schema.isoflop import CurveModel, IsoflopSection
from scaling.records.files import write_text

__all__ = ["SCHEMA", "analyse", "parse_laws", "read", "summary", "write"]

SCHEMA: Final = 1
DEFAULT_LOSS = Loss()
DEFAULT_LAWS: Final = ("chinchilla",)  # fitted to all runs, where none is named


@np.errstate(all="ignore")  # far from its runs a law may overflow or have no optimum: inf and nan, null in the document
def analyse(
    observations: Observations,
    *,
    laws: Sequence[str] | None = None,
    loss: Loss = DEFAULT_LOSS,
    bootstrap: int = 1000,
    seed: int = 0,
    holdout: Holdout | None = "budget",
    target_flops: float | None = None,
    errors: str = "given",
    minimum: CurveModel | None = None,
    fix: Mapping[str, float] | None = None,
    bounds: Mapping[str, Bounds] | None = None,
) -> Results:
    """Fit every law and measure everything that the document holds, stage by stage.

    Laws that are named answer alone; without, the forecasters of the near set do, beside a fit of DEFAULT_LAWS. A law
    of one variable is named with it, as "power:N"; without, it is compute. A law may be a formula over the table's
    columns, or a user's class as module:Class. `fix` holds parameters at values, and `bounds` keep them between two; a
    law then answers alone too. `bootstrap` 0 gives point fits and
    isoFLOP minima alone: no intervals, roll-outs, influence or choices. `errors` is a choice of `seed_noise.ERRORS`,
    how runs are weighed, `minimum` the curve model whose isoFLOP minima are quoted, by default the one that the runs
    bear out. A law that the data cannot determine is recorded as refused; ValueError when that leaves none.
    """
    wanted = parse_laws(DEFAULT_LAWS if laws is None else laws, observations.names, fix=fix, bounds=bounds)
    request = Request(wanted, loss, bootstrap, seed, holdout, minimum)
    lacking = [observations.lacking(names) for _, names in request.laws.values()]
    if lacking and all(lacking):  # before a word on how the runs differ
        raise ValueError(lacking[0])
    refuse_mixture(observations)
    noise = seed_noise.measure(observations, LEVEL)
    observations, weighed, weighed_words = seed_noise.apply_errors(observations, errors, noise)
    rows.refuse_equal_losses(observations)
    grid = rows.compute_grid(observations, target_flops)
    fits = fit_all(observations, request)
    study, no_study = measure_minima(observations, request)
    rolled = roll_out(observations, fits.surfaces, study, request, FEW_RESAMPLES if laws is None else RESAMPLES)
    forms = forms_of_fits(fits.surfaces, [row["law"] for row in rolled.table])
    lead = fits.surfaces[forms[0].name] if forms and bootstrap > 0 else None
    cost = rows.cost_section(observations)
    entries = fits_section(fits, observations, request, grid)
    isoflop = None if study is None else isoflop_section(study, forms[0] if forms else None, grid.flops, minimum)
    results: Results = {
        "schema": SCHEMA,
        "source": list(observations.source),
        "conventions": {**observations.conventions},
        "settings": settings_section(request, grid.target, weighed, weighed_words),
        "inferred": list(observations.inferred),
        "warnings": [],
        "notes": [
            *rows.notes_section(observations),
            *([] if observations.cost == SIX_N_D else [cost["words"]]),
            *no_study,
        ],
        "excluded": rows.excluded_section(observations),
        "range": rows.range_section(observations),
        "cost": cost,
        "observations": rows.observations_section(observations, () if study is None else study.budgets),
        "fits": entries,
        "isoflop": isoflop,
        "envelope": envelope_section(observations, seed=seed, level=LEVEL, draws=bootstrap),
        "frontiers": frontiers.measure(observations, isoflop, entries, LEVEL),
        "bytes_per_token": observations.bytes_per_token,
        "curves": curves_section(observations),
        "holdout": holdout_section(rolled),
        "influence": None if lead is None else influence_section(lead, grid.target),
        "choices": None if lead is None else choices_section(lead, grid.target),
        "forecast": forecast_section(forms, fits.surfaces, rolled),
        "prices": prices_section(observations),
        "serving": None,
        "comparison": None,
        "ground_truth": ground_truth_section(observations, entries, isoflop, LEVEL),
        "health": _health(observations, entries, [form.name for form in forms], isoflop, noise, seed),
    }
    if laws is None and not fix and not bounds and forms:
        let_forecasters_answer(results["forecast"], observations, study, request, noise, grid.target)
    others = observations.without({name for _, names in request.laws.values() for name in names})
    settings = [*varying_warning(others.table), *explaining_warnings(others)]
    first = [words] if isoflop is not None and (words := isoflop.get("disagreement")) else []
    results["warnings"] = [
        *settings,  # settings that vary make any law miss the losses
        *rejections(results),
        *first,
        *observations.damaged,
        *observations.doubts,
        *warnings_of(results),
    ]
    answer(results)
    return results


def _health(
    observations: Observations,
    fits: Sequence[FitEntry],
    forms: Sequence[str],
    isoflop: IsoflopSection | None,
    noise: SeedNoise | None,
    seed: int,
) -> HealthSection:
    """The diagnostics; the floor of a collapse is that of the leading form that has one, else of the first fit."""
    leading = sorted(fits, key=lambda entry: forms.index(entry["name"]) if entry["name"] in forms else len(forms))
    return {
        "collapse": collapse_section(observations, isoflop, leading),
        "noise_scale": noise_scale_section(observations, seed=seed, level=LEVEL),
        "seed_noise": seed_noise_section(observations, noise, LEVEL),
    }


def write(results: Results, path: str | Path) -> None:
    """Write a results document whole or not at all; numbers that are not finite are refused."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, allow_nan=False, separators=(",", ":")))


def read(path: str | Path) -> Results:
    """Read a results document; ValueError for another file, or one of a newer schema."""
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; `scaling fit DATA --out DIR` writes DIR/results.json") from None
    except (UnicodeDecodeError, json.JSONDecodeError, IsADirectoryError) as error:
        raise ValueError(f"{path} is not a results.json ({error}); `scaling fit DATA --out DIR` writes one") from None
    if not isinstance(document, dict) or "schema" not in document or "fits" not in document:
        raise ValueError(
            f"{path} is not a results.json, without schema and fits; `scaling fit DATA --out DIR` writes one"
        )
    if document["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {document['schema']}, this version reads {SCHEMA}; fit the data again")
    return cast(Results, document)

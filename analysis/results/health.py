"""Health of a study: scaling collapse, gradient noise and seed noise, each with a verdict or why there is none."""

from collections.abc import Mapping
from typing import Any

from analysis.health.collapse import collapse_section
from analysis.health.noise_scale import noise_scale_section
from analysis.health.seed_noise import SeedNoise, seed_noise_section
from analysis.runs.observations import Observations


def health_section(
    observations: Observations, document: Mapping[str, Any], noise: SeedNoise | None, *, seed: int, level: float
) -> dict[str, Any]:
    """The three diagnostics in the schema of `results`; `document` holds its fits, forecast and isoflop by now."""
    forms = document["forecast"]["forms"]
    leading = sorted(document["fits"], key=lambda entry: forms.index(entry["name"]) if entry["name"] in forms else 99)
    return {
        "collapse": collapse_section(observations, document["isoflop"], leading),
        "noise_scale": noise_scale_section(observations, seed=seed, level=level),
        "seed_noise": seed_noise_section(observations, noise, level),
    }

"""The command `curves`, and `predict --run`: laws of whole curves on studies and on runs in progress."""

import json
from pathlib import Path
from typing import Any

OTHERS = ("flops", "params", "tokens", "at", "loss", "serve", "register", "against")  # options of other predictions
MOST_LISTED = 5  # runs in a message


def curves(options: Any) -> int:
    """Fit the laws of whole curves to a study, predict schedules held out, and draw them."""
    from scaling.analysis.curves.held_out import describe_study, hold_out
    from scaling.analysis.figures import paper, whole_curves
    from scaling.analysis.figures.chart import Chart
    from scaling.records.files import write_json

    found = hold_out(options.study)
    if options.json:
        print(json.dumps(found))
        return 0
    print(describe_study(found))
    out = options.out or options.study
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "curves.json", found)
    print(f"curves: {out / 'curves.json'}")
    if isinstance(chart := whole_curves.chart(found), Chart):
        print(f"figure: {paper.save(chart, out / 'curves')[0]}")
    return 0


def predict_run(options: Any) -> int:
    """Forecast the end of a run in progress."""
    from scaling.analysis.curves.run_forecast import describe_run, forecast_run

    if given := [f"--{name}" for name in OTHERS if getattr(options, name) not in (None, False, [])]:
        raise ValueError(f"--run forecasts the end of a run as it was planned: leave out {', '.join(given)}")
    found = forecast_run(run_folder(options.of_run, options.results))
    print(json.dumps(found) if options.json else describe_run(found))
    return 0


def run_folder(run: str, study: Path | None) -> Path:
    """The folder of a run: a path, or an id in a study; ValueError lists the choices."""
    from scaling.records.record import run_dirs

    folder = Path(run)
    if study is None:
        if not folder.is_dir():
            raise ValueError(f"--run {run}: is no folder; give runs/STUDY/RUN_ID, or the study before its run's id")
        return folder
    study = study if study.is_dir() else study.parent
    names = [one.name for one in run_dirs(study)]
    if folder.name not in names:
        listed = ", ".join(names[:MOST_LISTED]) + (
            f" and {len(names) - MOST_LISTED} others" if names[MOST_LISTED:] else ""
        )
        raise ValueError(f"--run {run}: {study} holds no such run; choose from {listed or 'none, it holds no runs'}")
    return study / folder.name

"""The work of a study: what a worker reads is what was planned, or nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.config.config import compose
from scaling.config.grid import load_like, split_axes
from scaling.launch.sweep import expand
from scaling.machine.code import code_digest
from scaling.plan.plan import make_plan
from scaling.plan.run import Run
from scaling.plan.work import FILE, read_work, run_of, run_values, write_work

GRIDS = {
    "synthetic": ["data=synthetic", "seed=0,1"],
    "text": ["data=text", "data.source.paths=[docs/*.txt]", "model=t5", "tracker=tensorboard"],
    "tokens": ["data=tokens", "data.source.train=[docs/a.npy]"],
}


def runs_of(where: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Run]:
    import numpy as np

    monkeypatch.chdir(where)
    (where / "docs").mkdir()
    for number in range(4):
        (where / "docs" / f"{number}.txt").write_text(f"text {number} " * 50)
    np.save(where / "docs" / "a.npy", np.arange(1000, dtype=np.uint16) % 50)
    sizes = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "budget.flops=1e8"]
    fixed, axes = split_axes([*GRIDS[name], *sizes, "budget.least_steps=1", "budget.tolerance=100"])
    return expand(compose(fixed), fixed, axes, load_like)


@pytest.mark.parametrize("name", GRIDS)
def test_a_worker_reads_the_runs_that_were_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = runs_of(tmp_path, monkeypatch, name)
    study = runs[0].runtime.study_dir
    write_work(study, runs, retries=2)
    make_plan(runs, None).write()
    work = read_work(study.resolve())
    assert (work.retries, work.code, work.directory) == (2, code_digest(), tmp_path)
    assert [line["run_id"] for line in work.lines]
    for run in runs:
        here = replace(run.runtime, progress=False, runs_dir=study.resolve().parent)
        assert work.run(run.spec.run_id) == replace(run, runtime=here, tuned=None, by_law=None)


def test_the_same_plan_has_the_same_name_and_another_setting_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, monkeypatch, "synthetic")
    names = []
    for some, retries in ((runs, 1), (runs, 2), (runs[:1], 1)):
        write_work(tmp_path, some, retries)
        names.append(read_work(tmp_path).plan_id)
    assert names[0] == names[1] != names[2]


def test_work_that_was_changed_lost_or_never_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, monkeypatch, "synthetic")
    study = runs[0].runtime.study_dir
    with pytest.raises(ValueError, match="work.json is missing.*scaling plan OVERRIDES --write"):
        read_work(study)
    write_work(study, runs[:1], 1)
    make_plan(runs, None).write()
    with pytest.raises(ValueError, match=f"does not hold run {runs[1].spec.run_id} of the plan"):
        read_work(study)
    values = json.loads((study / FILE).read_text())
    values["runs"][runs[0].spec.run_id]["spec"]["seed"] = 7
    (study / FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="was changed since it was written"):
        read_work(study)
    (study / FILE).write_text("{")
    with pytest.raises(ValueError, match="is no JSON object"):
        read_work(study)


def test_work_from_before_runs_had_several_devices_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = run_values(runs_of(tmp_path, monkeypatch, "synthetic")[0])
    asked = run_of(values, tmp_path)
    for name in ("devices_per_run", "parallel", "rank_timeout_s"):
        del values["runtime"][name]
    assert run_of(values, tmp_path) == asked

"""Labels of runs: size, budget, tokens and seed, and no two alike."""

from typing import Any

from scaling.plan.labels import labels, side_by_side


def line(run_id: str, *overrides: str, seed: int = 0, **more: Any) -> dict[str, Any]:
    facts = {"requested_flops": 1e12, "train_tokens": 904_320, "n_params": {"non_embedding": 154_080}, "seed": seed}
    shape = {"n_layers": 2, "d_model": 80, "n_heads": 2}
    return {"run_id": run_id, "overrides": overrides, **facts, **shape, **more}


def test_a_label_states_size_budget_tokens_and_seed() -> None:
    found = labels([line("a", "model.d_model=80", "seed=0"), line("b", "model.d_model=80", "seed=1", seed=1)])
    assert found == {"a": "N=154k C=1e+12 D=904k seed=0", "b": "N=154k C=1e+12 D=904k seed=1"}


def test_settings_in_which_runs_differ_are_in_their_labels() -> None:
    rates = [
        line("a", "recipe.learning_rate=0.1", "runtime.device=cpu"),
        line("b", "recipe.learning_rate=0.2", "runtime.device=cpu"),
        line("c", "recipe.optimizer=muon", "runtime.device=cpu"),
    ]
    assert [text.partition("seed=0 ")[2] for text in labels(rates).values()] == [
        "learning_rate=0.1",
        "learning_rate=0.2",
        "optimizer=muon",
    ]


def test_no_two_labels_are_alike() -> None:
    shapes = labels([line("a"), line("b", n_layers=8, d_model=40)])
    assert list(shapes.values()) == [f"N=154k C=1e+12 D=904k seed=0 {shape}" for shape in ("2x80/2", "8x40/2")]
    same = labels([line("a", "val_tokens=1"), line("b", "val_tokens=1")])
    assert [text.split()[-1] for text in same.values()] == ["a", "b"]


def test_a_plan_without_counts_gives_no_labels() -> None:
    assert labels([{"run_id": "a"}, {"run_id": "b"}]) == {}


def test_a_stack_is_labelled_by_what_differs() -> None:
    assert side_by_side(["N=1 seed=0", "N=1 seed=1"]) == "N=1 seed=0|1"
    assert side_by_side(["N=1 seed=0"]) == "N=1 seed=0"
    assert side_by_side(["N=1 seed=0 2x8/2", "N=1 seed=0 1x9/2"]) == "N=1 seed=0 2x8/2 + N=1 seed=0 1x9/2"

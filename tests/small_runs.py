"""Whole runs as small as they get, for the tests of what comes after training."""

from dataclasses import replace
from pathlib import Path

from scaling.data.prepare import DataConfig, identify
from scaling.data.sources import Text
from scaling.records.life import Reporter
from scaling.records.record import RunRecord
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import Objective
from scaling.train.run import train_run
from tests.examples import SPEC, asked, runtime_in

TEXTS = ("a cat sat on the mat. ", "the dog, naïve and 犬, ran\n\tto  town ", "it's 1,234 words or <|endoftext|> so ")


def trained(
    folder: Path,
    shape: TransformerShape,
    objective: Objective,
    tokenizer: str = "bytes",
    vocab_size: int = 256,
    keep_weights: bool = True,
) -> tuple[RunRecord, Path]:
    """A run of three steps on a little text, and its directory."""
    for i, text in enumerate(TEXTS * 2):
        (folder / f"{i}.txt").write_text(text * (20 + i))
    data = DataConfig(Text((str(folder / "*.txt"),), "text"), tokenizer, vocab_size, 0.3)
    lengths, added = objective.lengths(shape.context), objective.added_tokens(shape.context)
    follows = {"predicted": lengths.predicted, "target_context": lengths.target}
    follows = {name: value for name, value in follows.items() if hasattr(shape, name)}
    shape = replace(shape, vocab_size=vocab_size + len(added), **follows)
    recipe = replace(SPEC.recipe, steps=3, schedule=replace(SPEC.recipe.schedule, warmup_steps=1, cooldown_steps=1))
    spec = replace(SPEC, model=shape, objective=objective, data=identify(data), recipe=recipe)
    runtime = runtime_in(folder, log_points=3, eval_fractions=(1.0,), keep_weights=keep_weights)
    record = train_run(asked(spec, data, runtime, None), Reporter())
    return record, folder / "s" / record.run_id

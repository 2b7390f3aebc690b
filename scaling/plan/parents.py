"""Parents of continued pretraining: a finished run, or a published checkpoint, whose weights a run goes on from.

A continued run (`init_from`) has its parent's model and objective, and a budget, data, recipe and schedule of its own.
Its identity holds the digest of the parent's weights; its record holds the parent, and counts its own tokens and FLOPs
alone.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scaling.data.cache import NO_TOKENIZER, manifest
from scaling.data.pretrained import PRETRAINED
from scaling.records.record import DONE, RunRecord, read_record
from scaling.spec.run_spec import Continued, ContinuedSpec, DataSpec, RecipeSpec, RunSpec, from_dict

START = "start.json"  # file beside the weights of a published checkpoint that is no run here
LEARNED = ("chars", "bpe")  # tokenizers whose ids depend on the text that they learned from


@dataclass(frozen=True)
class Parent:
    """A parent: its folder with its weights, and all that a continued run takes over from it."""

    folder: Path
    weights_sha256: str
    spec: RunSpec
    record: RunRecord | None  # None: a published checkpoint that is no run here
    origin: str  # origin of a published checkpoint; empty for a run
    tokenizers: tuple[str, ...]  # digests of a published checkpoint's tokenizer.json

    def facts(self, data: DataSpec, cache_dir: Path) -> dict[str, Any]:
        """The entry of a continued run's record about its parent; tokens and FLOPs are of all training before."""
        record, before = self.record, {"train_tokens": None, "train_flops": None}
        if record is not None:
            earlier = record.continued or {"train_tokens": 0, "train_flops": 0}
            own = {"train_tokens": record.train_tokens, "train_flops": record.train_flops}
            before = {name: None if earlier[name] is None else own[name] + earlier[name] for name in own}
        return {
            "run_id": None if record is None else record.run_id,
            "study": None if record is None else record.study,
            "origin": self.origin if record is None else (record.imported or {}).get("origin"),
            "weights_sha256": self.weights_sha256,
            "val_loss_nats": None if record is None else record.val_loss_nats,
            "same_tokenizer": self.has_ids_of(data, cache_dir),
            **before,
        }

    def has_ids_of(self, data: DataSpec, cache_dir: Path) -> bool | None:
        """Whether an id stands for the same token as in the parent's training; None where that is not known."""
        own = self.spec.data if self.record is not None else None
        if own is not None and own == data:
            return True
        known = set(self.tokenizers)
        if own is not None and own.tokenizer not in (PRETRAINED, NO_TOKENIZER):
            prepared = manifest(own, cache_dir)
            known |= set() if prepared is None else {prepared.tokenizer_sha256 or ""}
        elif own is not None and own.tokenizer == PRETRAINED:
            known.add(own.tokenizer_sha256 or "")
        if NO_TOKENIZER in (data.tokenizer, getattr(own, "tokenizer", "")) or (own is None and not known):
            return None if data.tokenizer in (NO_TOKENIZER, PRETRAINED) else False
        if data.tokenizer == PRETRAINED:
            return data.tokenizer_sha256 in known
        if own is None or data.tokenizer != own.tokenizer:
            return False
        return data.tokenizer not in LEARNED or _split(own) == _split(data)

    def check(self, setting: str, data: DataSpec, recipe: RecipeSpec, cache_dir: Path) -> None:
        """ValueError, with the remedy, for data or a recipe under which the weights would mean something else."""
        if data.vocab_size > self.spec.model.vocab_size:
            raise ValueError(
                f"data.vocab_size={data.vocab_size}: the model of {setting} has {self.spec.model.vocab_size} ids; give "
                f"data of its vocabulary"
            )
        if self.has_ids_of(data, cache_dir) is False:
            raise ValueError(
                f"data.tokenizer={data.tokenizer}: ids of these data are not the ids that {setting} was trained on; "
                f"{self._remedy(cache_dir)}"
            )
        if recipe.multipliers != self.spec.recipe.multipliers:
            raise ValueError(
                f"the recipe's parametrization multiplies activations otherwise than that of {setting}; use its "
                f"parametrization ({getattr(self.spec.recipe.parametrization, 'kind', 'standard')})"
            )

    def continued(self, spec: RunSpec) -> ContinuedSpec:
        """The spec of a run that goes on from this parent."""
        values = {field.name: getattr(spec, field.name) for field in fields(RunSpec)}
        return ContinuedSpec(**values, continued=Continued(self.weights_sha256))

    def _remedy(self, cache_dir: Path) -> str:
        if self.record is None:
            return f"set data.tokenizer={PRETRAINED} and data.tokenizer_path to the checkpoint, or give data=tokens"
        own = self.spec.data
        if own.tokenizer == "bpe" and (prepared := manifest(own, cache_dir)) is not None:
            path = cache_dir / prepared.digest / "tokenizer.json"
            return f"set data.tokenizer={PRETRAINED} data.tokenizer_path={path}"
        return f"set data.tokenizer={own.tokenizer}" + (", and the same data" if own.tokenizer in LEARNED else "")


def read_parent(init_from: str) -> Parent:
    """The parent in a folder; ValueError names what is missing."""
    folder, setting = Path(init_from), f"init_from={init_from}"
    if (folder / START).is_file():
        values = json.loads((folder / START).read_text())
        spec = from_dict(values["spec"])
        return Parent(folder, values["weights_sha256"], spec, None, values["origin"], tuple(values["tokenizers"]))
    record = read_record(folder)
    if record is None or record.status != DONE:
        found = "holds no finished run" if record is None else f"is a run that {record.status}"
        raise ValueError(
            f"{setting} {found}; give a finished run (runs/STUDY/RUN_ID), or to `scaling train` a published checkpoint "
            f"(a folder with config.json, or NAME or NAME@REVISION of the hub)"
        )
    if record.finetuned is not None:
        raise ValueError(f"{setting} was fine-tuned on a task; name the run that it started from")
    if not any(folder.glob("checkpoint/*/model.safetensors")):
        raise ValueError(f"{setting} holds no weights; train it with runtime.keep_weights=true")
    return Parent(folder, record.weights_sha256, from_dict(record.spec), record, "", ())


def _split(data: DataSpec) -> tuple[Any, ...]:
    """All that decides the text that a tokenizer learns from."""
    return data.kind, data.fingerprint, data.val_fraction, data.vocab_size

"""A published checkpoint becomes a finished run of a study, its weights evaluated on the user's data."""

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from scaling.config.config import compose, to_run
from scaling.data.prepare import NO_TOKENIZER, TokenData, prepare
from scaling.data.pretrained import special_tokens
from scaling.data.token_text import TokenText
from scaling.hf.reading import Published, read_published
from scaling.hf.settings import setting_name, to_ours
from scaling.hf.weights import to_ours as weights_to_ours
from scaling.machine import hardware
from scaling.model import build, parameters_by_group
from scaling.objectives.objectives import added_ids
from scaling.plan.run import Run
from scaling.records.attempt import now
from scaling.records.files import write_json
from scaling.records.record import DONE, SCHEMA, RunRecord, publish_record, read_record
from scaling.shapes import flops as exact_flops
from scaling.shapes.families import SHAPES
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.objective import names_of
from scaling.spec.run_spec import NO_RECIPE, Imported, ImportedSpec, RunSpec, to_dict
from scaling.train import checkpoint
from scaling.train.validation import Validation, bits_per_byte, evaluate, validation_examples

COMPARED_TOKENS = 4096  # of the validation split, encoded by both tokenizers


@dataclass(frozen=True)
class Stated:
    """What the user says of the training elsewhere."""

    train_tokens: int
    unique_tokens: int


def import_checkpoint(source: str, settings: Sequence[str]) -> str:
    """Make the checkpoint a finished run of its study, unless it is there; returns what was done, in words.

    `settings` are train_tokens=, unique_tokens= and Hydra overrides. ValueError, with nothing written to the study, for
    a checkpoint that cannot be read or has no equivalent here, and for data that does not fit it.
    """
    stated, overrides = _stated(settings)
    published = read_published(source)
    run = _run(published, overrides, stated)
    model = build(run.spec.model, 0)
    model.load_state_dict(
        weights_to_ours(published.weights, published.architecture, model.state_dict(), run.spec.model)
    )
    kept = {f.name: getattr(run.spec, f.name) for f in fields(RunSpec)} | {"recipe": NO_RECIPE, "seed": 0}
    spec = ImportedSpec(**kept, imported=Imported(checkpoint.weights_digest(model), stated.train_tokens))
    run_dir = run.runtime.study_dir / spec.run_id
    if (record := read_record(run_dir)) is not None:
        return f"{run_dir}: there already, validation loss {record.val_loss_nats:.4f} nats"
    tokens = prepare(run.data, spec.data, run.runtime.cache_dir, progress=run.runtime.progress)
    compared = _check_tokenizer(published.folder, spec, tokens)
    device = hardware.pick_device(run.runtime.device, "fp32")
    started_at = now()
    text = TokenText.of(tokens.tokenizer()) if spec.objective.needs_text() else None
    examples = validation_examples(spec, tokens.val, text, device)
    validation = evaluate(model.to(device), examples, torch.autocast(device.type, enabled=False))
    if not math.isfinite(validation.loss_nats):
        raise ValueError(f"{source}: its validation loss is {validation.loss_nats}; its weights are damaged")
    imported = {
        "origin": published.origin,
        "class": published.architecture.model_class,
        "file_sha256": published.file_sha256,
        "unused_weights": list(published.unused),
        "tokenizer_compared": compared,
    }
    record = _record(spec, run, stated, model, validation, tokens, imported, started_at, hardware.describe(device))
    _enter(run_dir, record, model if run.runtime.keep_weights else None)
    return f"{run_dir}: imported from {published.origin}, validation loss {record.val_loss_nats:.4f} nats"


def _stated(settings: Sequence[str]) -> tuple[Stated, list[str]]:
    given, overrides = {}, []
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in ("train_tokens", "unique_tokens"):
            overrides.append(setting)
            continue
        try:
            given[name] = int(float(value))
        except (ValueError, OverflowError):
            given[name] = 0
        if given[name] < 1:
            raise ValueError(f"{setting}: must be a positive number of tokens, e.g. {name}=3e11")
    if "train_tokens" not in given:
        raise ValueError("how many tokens was it trained on, as its publisher says? add train_tokens=, e.g. 3e11")
    return Stated(given["train_tokens"], given.get("unique_tokens", given["train_tokens"])), overrides


def _run(published: Published, overrides: Sequence[str], stated: Stated) -> Run:
    """The run as configured, its model as the checkpoint decides."""
    architecture = published.architecture
    decided = to_ours(published.config, architecture)
    decided.pop("next_sentence", None)  # the objective says
    if "head_bias" in architecture.weights and "head_bias" not in decided and architecture.kind == "encoder_decoder":
        decided["head_bias"] = bool(published.weights[str(architecture.weights["head_bias"])].any())
    spelled = [
        f"{setting_name(name)}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in decided.items()
    ]
    budget = ["budget.flops=null", f"budget.tokens={stated.train_tokens}"]
    tokenizer = _own_tokenizer(published.folder)
    specials = None if tokenizer is None else special_tokens(tokenizer)
    run = to_run(compose([f"model={architecture.preset}", *budget, *spelled, *overrides]), specials=specials)
    shape = run.spec.model
    assert isinstance(shape, SHAPES[architecture.kind])
    for name, value in decided.items():
        asked = getattr(shape, name)
        shorter = name == "context" and architecture.positions != "learned" and asked <= value
        if asked != value and not shorter and name != "dropout":
            raise ValueError(f"{setting_name(name)}={asked}: the checkpoint has {value}; leave the setting out")
    return run


def _own_tokenizer(folder: Path) -> Tokenizer | None:
    """The checkpoint's own tokenizer, where it comes with one."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None


def _check_tokenizer(folder: Path, spec: ImportedSpec, tokens: TokenData) -> bool:
    """Whether the checkpoint's tokenizer could be compared with the data's; ValueError where they differ."""
    theirs = _own_tokenizer(folder)
    if theirs is None:
        return False
    for name, expected in added_ids(spec).items():
        for known in names_of(name):
            if (found := theirs.token_to_id(known)) not in (None, expected):
                raise ValueError(
                    f"objective={spec.objective.kind} uses id {expected} as {name}, but the checkpoint knows {known} "
                    f"as id {found}: its loss would be of a token it never saw; evaluate a model of another objective"
                )
    if spec.data.tokenizer == NO_TOKENIZER:
        return False
    theirs.encode_special_tokens = True
    ours = tokens.tokenizer()
    text = ours.decode(tokens.val[:COMPARED_TOKENS])
    if theirs.encode(text, add_special_tokens=False).ids != ours.encode(text).tolist():
        raise ValueError(
            f"data.tokenizer={spec.data.tokenizer} gives other ids than the checkpoint's own tokenizer, so its loss "
            f"would mean nothing; give the data as the checkpoint's own tokens (data=tokens)"
        )
    return True


def _record(
    spec: ImportedSpec,
    run: Run,
    stated: Stated,
    model: nn.Module,
    validation: Validation,
    tokens: TokenData,
    imported: dict[str, Any],
    started_at: str,
    machine: dict[str, Any],
) -> RunRecord:
    per_sequence, manifest = exact_flops.train_flops_per_sequence(spec.model), tokens.manifest
    whole = spec.objective.predicts_every_token
    loss = validation.loss_nats
    return RunRecord(
        schema=SCHEMA,
        run_id=spec.run_id,
        study=run.runtime.study,
        status=DONE,
        why="",
        spec=to_dict(spec),
        params_by_group=parameters_by_group(model),
        n_params=parameter_counts(spec.model),
        flops_per_token_by_group=exact_flops.train_flops_per_token_by_group(spec.model),
        flops_convention=exact_flops.EXACT_IN_WORDS,
        budget_flops=None,
        train_flops=spec.train_tokens * per_sequence // spec.model.sequence_tokens,
        paid_flops=0,
        trunk=None,
        optimizer_flops=0,
        eval_flops=validation.sequences * per_sequence // (1 + exact_flops.BACKWARD_PER_FORWARD),
        recompute_flops=0,
        train_tokens=spec.train_tokens,
        predicted_tokens=spec.train_tokens * spec.lengths.predicted // spec.model.sequence_tokens,
        unique_tokens=stated.unique_tokens,
        epochs=stated.train_tokens / stated.unique_tokens,
        steps=0,
        val_loss_nats=loss,
        val_loss_se_nats=None if math.isnan(validation.se_nats) else validation.se_nats,
        val_bits_per_byte=bits_per_byte(loss, manifest.val_tokens, manifest.val_bytes) if whole else None,
        val_next_loss_nats=validation.next_loss_nats,
        train_loss_nats=None,
        val_tokens=validation.predicted_tokens,
        entropy_rate_nats=manifest.entropy_rate_nats if whole else None,
        least_loss_nats=manifest.least_loss_nats(spec.model.context) if whole else None,
        wall_s=0.0,
        train_s=0.0,
        attempts=0,
        weights_sha256=spec.imported.weights_sha256,
        hardware=machine,
        versions=hardware.versions(),
        git_commit=hardware.git_commit(),
        started_at=started_at,
        ended_at=now(),
        imported=imported,
        finetuned=None,
    )


def _enter(run_dir: Path, record: RunRecord, model: nn.Module | None) -> None:
    """Put the run into its study by one rename, so that nobody sees a part of it."""
    study, runs = run_dir.parent, run_dir.parents[1]
    runs.mkdir(parents=True, exist_ok=True)
    prepared = Path(tempfile.mkdtemp(dir=runs, prefix=".import-"))
    try:
        write_json(prepared / "spec.json", record.spec)
        if model is not None:
            checkpoint.save_weights(prepared, model)
        publish_record(prepared, record)
        os.chmod(prepared, 0o755)
        study.mkdir(exist_ok=True)
        os.rename(prepared, run_dir)
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise

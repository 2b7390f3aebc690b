"""Import of a published checkpoint as a finished run of a study, evaluated on the user's data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from scaling.config.config import compose, to_run
from scaling.data.cache import NO_TOKENIZER, TokenData
from scaling.data.manifest import Manifest
from scaling.data.prepare import prepare
from scaling.data.pretrained import special_tokens
from scaling.data.token_text import TokenText
from scaling.hf.reading import Published, read_published
from scaling.hf.settings import setting_name, to_ours, window_words
from scaling.hf.weights import to_ours as weights_to_ours
from scaling.machine import hardware
from scaling.model import build
from scaling.objectives.objectives import added_ids
from scaling.plan.run import Run
from scaling.records.attempt import now
from scaling.records.life import Reporter, claim_run, live
from scaling.records.record import RunRecord, read_record
from scaling.shapes.families import SHAPES
from scaling.shapes.flops import BACKWARD_PER_FORWARD, train_flops_per_sequence
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import names_of
from scaling.spec.run_spec import NO_RECIPE, Imported, ImportedSpec, RunSpec
from scaling.train import checkpoint
from scaling.train.bare_record import bare_record
from scaling.train.validation import Validation, bits_per_byte, evaluate, validation_batches

COMPARED_TOKENS = 4096  # validation tokens whose text both tokenizers encode


@dataclass(frozen=True)
class Stated:
    """The checkpoint's training elsewhere and its revision on the hub, as stated by the user."""

    train_tokens: int
    unique_tokens: int
    revision: str | None = None


def import_checkpoint(source: str, settings: Sequence[str]) -> str:
    """Make a checkpoint a finished run of its study, unless the run exists; return the outcome in words.

    `settings` are train_tokens=, unique_tokens=, revision= and Hydra overrides. Raises ValueError, with nothing written
    to the study, for a checkpoint that cannot be read or has no equivalent here, and for data that do not fit it.
    """
    stated, overrides = _stated(settings)
    published = read_published(source, stated.revision)
    run = configured(published, overrides, stated.train_tokens)
    model = loaded(published, run.spec.model)
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
    batches = validation_batches(spec, tokens.val, text, device)
    validation = evaluate(model.to(device), batches, torch.autocast(device.type, enabled=False))
    if not math.isfinite(validation.loss_nats):
        raise ValueError(f"{source}: its validation loss is {validation.loss_nats}; its weights are damaged")
    claimed = claim_run(spec, run.runtime, 0, {"hardware": hardware.describe(device)})
    if isinstance(claimed, RunRecord):
        return f"{run_dir}: there already, validation loss {claimed.val_loss_nats:.4f} nats"
    with live(claimed, spec, run.runtime, None, Reporter()) as life:
        bare = bare_record(spec, claimed, model, device, started_at)
        record = _filled(bare, spec, stated, validation, tokens.manifest, _origin(published, stated, compared))
        if run.runtime.keep_weights:
            checkpoint.save_weights(run_dir, model)
        life.publish(record)
    words = f"{run_dir}: imported from {published.origin}, validation loss {record.val_loss_nats:.4f} nats"
    return "; ".join(filter(None, (words, window_words(published.config, published.architecture))))


def _origin(published: Published, stated: Stated, compared: bool) -> dict[str, Any]:
    """The record's entry about the origin of the weights."""
    return {
        "origin": published.origin,
        "revision": stated.revision,
        "class": published.architecture.model_class,
        "file_sha256": published.file_sha256,
        "unused_weights": list(published.unused),
        "tokenizer_compared": compared,
    }


def _stated(settings: Sequence[str]) -> tuple[Stated, list[str]]:
    given, overrides, revision = {}, [], None
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "revision":
            revision = value.strip("'\"")
            continue
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
    return Stated(given["train_tokens"], given.get("unique_tokens", given["train_tokens"]), revision), overrides


def loaded(published: Published, shape: TransformerShape) -> nn.Module:
    """The checkpoint's model here, with its weights."""
    model = build(shape, 0)
    model.load_state_dict(weights_to_ours(published.weights, published.architecture, model.state_dict(), shape))
    return model


def configured(published: Published, overrides: Sequence[str], train_tokens: int) -> Run:
    """The configured run, with the model that the checkpoint decides."""
    architecture = published.architecture
    decided = to_ours(published.config, architecture)
    decided.pop("next_sentence", None)  # the objective decides it
    if "head_bias" in architecture.weights and "head_bias" not in decided and architecture.kind == "encoder_decoder":
        decided["head_bias"] = bool(published.weights[str(architecture.weights["head_bias"])].any())
    spelled = [
        f"{setting_name(name)}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in decided.items()
    ]
    budget = ["budget.flops=null", f"budget.tokens={train_tokens}"]
    tokenizer = _own_tokenizer(published.folder)
    specials = None if tokenizer is None else special_tokens(tokenizer)
    run = to_run(compose([f"model={architecture.preset}", *budget, *spelled, *overrides]), specials=specials)
    shape = run.spec.model
    assert isinstance(shape, SHAPES[architecture.kind])
    for name, value in decided.items():
        configured = getattr(shape, name)
        shorter = name == "context" and architecture.positions != "learned" and configured <= value
        if configured != value and not shorter and name != "dropout":
            raise ValueError(f"{setting_name(name)}={configured}: the checkpoint has {value}; leave the setting out")
    return run


def _own_tokenizer(folder: Path) -> Tokenizer | None:
    """The checkpoint's own tokenizer, or None."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None


def _check_tokenizer(folder: Path, spec: ImportedSpec, tokens: TokenData) -> bool:
    """Compare the checkpoint's tokenizer with the data's; False where impossible, ValueError where they differ."""
    theirs = _own_tokenizer(folder)
    if theirs is None:
        return False
    for name, expected in added_ids(spec).items():
        for known in names_of(name):
            if (own_id := theirs.token_to_id(known)) not in (None, expected):
                raise ValueError(
                    f"objective={spec.objective.kind} uses id {expected} as {name}, but the checkpoint knows {known} "
                    f"as id {own_id}: its loss would be of a token it never saw; evaluate a model of another objective"
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


def _filled(
    bare: RunRecord,
    spec: ImportedSpec,
    stated: Stated,
    validation: Validation,
    manifest: Manifest,
    imported: dict[str, Any],
) -> RunRecord:
    """The record of a checkpoint trained elsewhere: its training as stated, its loss as evaluated here."""
    per_sequence, tokens_each = train_flops_per_sequence(spec.model), spec.model.sequence_tokens
    whole, loss = spec.objective.predicts_every_token, validation.loss_nats
    return replace(
        bare,
        train_flops=spec.train_tokens * per_sequence // tokens_each,
        eval_flops=validation.sequences * per_sequence // (1 + BACKWARD_PER_FORWARD),
        train_tokens=spec.train_tokens,
        predicted_tokens=spec.train_tokens * spec.lengths.predicted // tokens_each,
        unique_tokens=stated.unique_tokens,
        epochs=stated.train_tokens / stated.unique_tokens,
        val_loss_nats=loss,
        val_loss_se_nats=None if math.isnan(validation.se_nats) else validation.se_nats,
        val_bits_per_byte=bits_per_byte(loss, manifest.val_tokens, manifest.val_bytes) if whole else None,
        val_auxiliary_nats=validation.auxiliary_nats,
        val_tokens=validation.predicted_tokens,
        entropy_rate_nats=manifest.entropy_rate_nats if whole else None,
        least_loss_nats=manifest.least_loss_nats(spec.model.context) if whole else None,
        imported=imported,
    )

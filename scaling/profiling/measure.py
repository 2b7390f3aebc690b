"""profile.json: the cost of serving a finished run's model, next to its record; measuring again replaces it whole.

The record is published once and never changed, so numbers that depend on today's machine stand in this file:

  schema, run_id, weights_sha256   the weights that were measured, as the record names them
  measured_at, hardware, versions, git_commit
  precision       precision of the timed weights: the run's own
  prefill         {"words", "tokens", "median_s", "quartiles_s": [low, high], "repeats"} of one sequence
  generation      the same of one token of one sequence, with "kv_cache": true; null where the model generates none
  no_generation   the reason where generation is null; else ""
  batches         [{"batch", "prefill_tokens_per_s", "generated_tokens_per_s": null without generation,
                    "peak_memory_bytes"}], ascending, 1 always among them
  memory_words    contents of the peak
  storage         {"fp32" | "bf16" | "int8": {"bytes", "loss_nats", "loss_se_nats"}}: the loss of the weights read back
                  from that format, computed in float32 on the run's validation set
  no_loss         the reason where these losses are null; else ""
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scaling.data.cache import prepared
from scaling.data.token_text import TokenText
from scaling.machine import hardware
from scaling.machine.checkout import git_commit
from scaling.machine.speed import Speed, layers
from scaling.model import build
from scaling.profiling import peak_memory
from scaling.profiling.inference import GENERATION_WORDS, PREFILL_WORDS, greedy, new_tokens, prefill, prompt
from scaling.profiling.storage import FORMATS, store
from scaling.profiling.timing import ENOUGH_S, LEAST_REPEATS, WARM_UP, time_call, time_steps
from scaling.records.attempt import now
from scaling.records.files import write_json
from scaling.records.record import DONE, PROFILE, read_record
from scaling.shapes.flops import BACKWARD_PER_FORWARD, train_flops_per_sequence
from scaling.spec.run_spec import RunSpec, from_dict
from scaling.train.checkpoint import final_weights
from scaling.train.validation import evaluate, validation_batches

SCHEMA = 1
MEMORY_S = 5.0  # seconds of the process that measures memory, most of which it imports torch
Json = dict[str, Any]
Show = Callable[[str], None]


def profile_run(run_dir: Path, batches: Sequence[int], device: str, cache_dir: Path, show: Show) -> Json:
    """Measure a finished run and publish its profile; `show` receives the current measurement, in words.

    Raises ValueError for a run that is not done, keeps no weights, or does not fit into memory at these batch sizes.
    """
    record = read_record(run_dir)
    if record is None or record.status != DONE:
        state = "has no record yet" if record is None else record.status
        raise ValueError(f"{run_dir}: only a finished run can be profiled, and this one {state}; train it first")
    spec, weights = from_dict(record.spec), final_weights(run_dir, record.weights_sha256)
    chosen = hardware.pick_device(device, spec.recipe.precision)
    profile: Json = {
        "schema": SCHEMA,
        "run_id": record.run_id,
        "weights_sha256": record.weights_sha256,
        "measured_at": now(),
        "hardware": hardware.describe(chosen),
        "versions": hardware.versions(),
        "git_commit": git_commit(),
        "precision": spec.recipe.precision,
        **_serve(spec, weights, sorted({1, *batches}), chosen, show),
        **_store(spec, weights, cache_dir, chosen, show),
    }
    write_json(run_dir / PROFILE, profile)
    return profile


def forward_flops(spec: RunSpec) -> float:
    """FLOPs of a forward pass over one sequence."""
    return train_flops_per_sequence(spec.model) / (1 + BACKWARD_PER_FORWARD)


def estimated_s(spec: RunSpec, batches: Collection[int], expected: Speed) -> float:
    """Seconds that a run's profile takes at this speed of steps."""
    calls, depth, forward = WARM_UP + LEAST_REPEATS, layers(spec), forward_flops(spec)
    new, _ = new_tokens(spec.model)
    timed = [expected.step(depth, batch * forward) for batch in batches]
    timed += [new * expected.step(depth, batch * forward / spec.model.context) for batch in batches if new]
    validated = len(FORMATS) * spec.val_tokens / spec.model.sequence_tokens * forward / expected.flops_per_s
    return sum(max(ENOUGH_S, calls * seconds) for seconds in timed) + MEMORY_S + validated


@torch.no_grad()
def _serve(spec: RunSpec, weights: dict[str, Tensor], batches: list[int], device: torch.device, show: Show) -> Json:
    """Latency, throughput and peak memory of serving."""
    shape, precision = spec.model, spec.recipe.precision
    model = _model(spec, weights, device).to(peak_memory.DTYPES[precision])
    new, no_generation = new_tokens(shape)
    read, written = [], []
    for batch in batches:
        show(f"timing batch {batch}")
        inputs = prompt(shape, batch, device)
        read.append(time_call(prefill(model, inputs), device))
        if new:
            written.append(time_steps(lambda: greedy(model, shape, inputs, new), device, skip=1))  # noqa: B023
    show("measuring memory")
    peaks = peak_memory.peak_memory(spec, batches, precision, device, torch.get_num_threads())
    last = shape.towers()[-1]
    return {
        "prefill": {
            "words": PREFILL_WORDS[shape.kind].format(tokens=shape.context),
            "tokens": shape.context,
            **read[0],
        },
        "generation": {
            "words": GENERATION_WORDS.format(
                new=new, stream="context" if shape.kind == "decoder" else last.stream, tokens=last.tokens
            ),
            "tokens": new,
            "kv_cache": True,
            **written[0],
        }
        if new
        else None,
        "no_generation": no_generation,
        "batches": [
            {
                "batch": batch,
                "prefill_tokens_per_s": batch * shape.context / read[i]["median_s"],
                "generated_tokens_per_s": batch / written[i]["median_s"] if new else None,
                "peak_memory_bytes": peaks[batch],
            }
            for i, batch in enumerate(batches)
        ],
        "memory_words": peak_memory.WORDS[device.type],
    }


def _store(spec: RunSpec, weights: dict[str, Tensor], cache_dir: Path, device: torch.device, show: Show) -> Json:
    """Bytes in every storage format, and the loss of the weights read back."""
    data = prepared(spec.data, cache_dir)
    storage: Json = {}
    for name in FORMATS:
        size, restored = store(weights, name)
        storage[name] = {"bytes": size, "loss_nats": None, "loss_se_nats": None}
        if data is None:
            continue
        show(f"validating in {name}")
        text = TokenText.of(data.tokenizer()) if spec.objective.needs_text() else None
        autocast = torch.autocast(device.type, enabled=False)
        batches = validation_batches(spec, data.val, text, device)
        validation = evaluate(_model(spec, restored, device), batches, autocast)
        storage[name] |= {"loss_nats": validation.loss_nats, "loss_se_nats": validation.se_nats}
    lack = f"the run's data is not in {cache_dir}; name the folder with --cache"
    return {"storage": storage, "no_loss": lack if data is None else ""}


def _model(spec: RunSpec, weights: dict[str, Tensor], device: torch.device) -> torch.nn.Module:
    model = build(spec.model, 0, spec.recipe.multipliers)
    model.load_state_dict(weights)
    return model.to(device).eval()

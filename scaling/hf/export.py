"""Export of a finished run to a folder that Hugging Face's AutoModel and AutoTokenizer load."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scaling.data.cache import NO_TOKENIZER, digest, load_tokenizer, manifest
from scaling.data.tokenizers import END_ID
from scaling.hf import transformers_library
from scaling.hf.architectures import ARCHITECTURES
from scaling.hf.folding import fold
from scaling.hf.settings import architecture_of, to_theirs
from scaling.hf.tokenizers import translate
from scaling.hf.weights import Tensors
from scaling.hf.weights import to_theirs as weights_to_theirs
from scaling.objectives.objectives import added_ids, target_end
from scaling.records.files import scratch_folder
from scaling.records.record import DONE, read_record
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import RunSpec, from_dict
from scaling.train.checkpoint import final_weights


def export(run_dir: Path, out: Path, cache_dir: Path, model_type: str | None = None) -> str:
    """Write the run's final weights, and its tokenizer where it has one, to `out`, whole or not at all.

    `model_type` is the Hugging Face model type to write; None: that of an imported run, or the first that fits.
    Returns a description of the folder. Raises ValueError for an existing `out`, and for a run that is not done, keeps
    no weights, or has a setting that no Hugging Face class supports.
    """
    transformers_library()
    record = read_record(run_dir)
    if record is None or record.status != DONE:
        state = "has no record yet" if record is None else record.status
        raise ValueError(f"{run_dir}: only a finished run can be exported, and this one {state}; train it first")
    if out.exists():
        raise ValueError(f"{out} is there already; give --out a folder that is not")
    spec = from_dict(record.spec)
    weights = fold(final_weights(run_dir, record.weights_sha256), spec.model, spec.recipe.multipliers)
    if model_type is None and record.imported is not None:
        classes = {architecture.model_class: name for name, architecture in ARCHITECTURES.items()}
        model_type = classes.get(record.imported["class"])
    model = as_theirs(spec.model, weights, model_type)
    if spec.model.kind != "encoder":  # an encoder generates no text that could end
        end = target_end(spec) if spec.model.kind == "encoder_decoder" else spec.data.end_id or END_ID
        model.config.eos_token_id = model.generation_config.eos_token_id = end
    try:
        tokenizer, lack = tokenizer_of(spec, cache_dir), ""
    except ValueError as error:
        tokenizer, lack = None, str(error)
    out.parent.mkdir(parents=True, exist_ok=True)
    prepared = scratch_folder(out.parent, out.name)
    try:
        model.save_pretrained(prepared)
        if tokenizer is not None:
            tokenizer.save_pretrained(prepared)
        os.chmod(prepared, 0o755)
        os.rename(prepared, out)
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    _, architecture = architecture_of(spec.model, model_type)
    written = f"{out}: a {architecture.model_class}, loaded by transformers.{architecture.auto_class}"
    return f"{written} and AutoTokenizer" if not lack else f"{written}; without a tokenizer: {lack}"


def as_theirs(shape: TransformerShape, weights: Tensors, model_type: str | None = None) -> Any:
    """The Hugging Face model of a shape, with these weights; see `architecture_of`."""
    transformers = transformers_library()
    kind, architecture = architecture_of(shape, model_type)
    settings = to_theirs(shape, architecture)
    config = transformers.AutoConfig.for_model(kind, **settings)
    for name, value in settings.items():  # T5 derives some settings from others unless they are set afterwards
        setattr(config, name, value)
    model: nn.Module = getattr(transformers, architecture.model_class)(config)
    model.load_state_dict(weights_to_theirs(weights, architecture, model.state_dict(), shape))
    return model.eval()


def tokenizer_of(spec: RunSpec, cache_dir: Path) -> Any:
    """The tokenizer of a run's data as a transformers tokenizer; ValueError, with the reason, where there is none."""
    if spec.data.tokenizer == NO_TOKENIZER:
        raise ValueError("the run's data came as tokens")
    prepared = manifest(spec.data, cache_dir)
    if prepared is None:
        raise ValueError(f"the run's data is not in {cache_dir}; name the folder with --cache")
    ours = load_tokenizer(prepared, cache_dir / digest(spec.data))
    added: Mapping[str, int] = added_ids(spec)
    translated = translate(ours, added)
    special = {"mask_token": translated.id_to_token(added["<mask>"])} if "<mask>" in added else {}
    special |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), translated.id_to_token(ours.end_id))
    return transformers_library().PreTrainedTokenizerFast(
        tokenizer_object=translated,
        model_max_length=spec.model.context,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        split_special_tokens=not added,  # the letters of an end marker within a text are ordinary text
        **special,
    )

"""Export of a finished run to a folder that Hugging Face's AutoModel and AutoTokenizer load."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scaling.data.prepare import NO_TOKENIZER, digest, load_tokenizer, manifest
from scaling.data.tokenizers import END_ID
from scaling.hf import transformers_library
from scaling.hf.folding import fold
from scaling.hf.settings import architecture_of, to_theirs
from scaling.hf.tokenizers import translate
from scaling.hf.weights import Tensors
from scaling.hf.weights import to_theirs as weights_to_theirs
from scaling.objectives.objectives import added_ids, target_end
from scaling.records.record import DONE, read_record
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import RunSpec, from_dict
from scaling.train.checkpoint import final_weights


def export(run_dir: Path, out: Path, cache_dir: Path) -> str:
    """Write the run's final weights, and its tokenizer where it has one, to `out`, whole or not at all.

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
    weights = fold(final_weights(run_dir), spec.model, spec.recipe.multipliers)
    model = as_theirs(spec.model, weights)
    if spec.model.kind != "encoder":  # an encoder generates no text that could end
        end = target_end(spec) if spec.model.kind == "encoder_decoder" else spec.data.end_id or END_ID
        model.config.eos_token_id = model.generation_config.eos_token_id = end
    try:
        tokenizer, lack = tokenizer_of(spec, cache_dir), ""
    except ValueError as error:
        tokenizer, lack = None, str(error)
    out.parent.mkdir(parents=True, exist_ok=True)
    prepared = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        model.save_pretrained(prepared)
        if tokenizer is not None:
            tokenizer.save_pretrained(prepared)
        os.chmod(prepared, 0o755)
        os.rename(prepared, out)
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    _, architecture = architecture_of(spec.model)
    written = f"{out}: a {architecture.model_class}, loaded by transformers.{architecture.auto_class}"
    return f"{written} and AutoTokenizer" if not lack else f"{written}; without a tokenizer: {lack}"


def as_theirs(shape: TransformerShape, weights: Tensors) -> Any:
    """The Hugging Face model of a shape, with these weights."""
    transformers = transformers_library()
    kind, architecture = architecture_of(shape)
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

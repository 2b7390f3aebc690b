"""Settings of a shape to Hugging Face's and back; a setting without equivalent is refused by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from scaling.hf.architecture import Architecture
from scaling.hf.architectures import ARCHITECTURES
from scaling.registry import choose
from scaling.shapes.shape import NUMBERS, TransformerShape, kind_and_number

ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2", "silu": "silu"}
OTHER_ACTIVATION_NAMES = {"gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}


def architecture_of(shape: TransformerShape, model_type: str | None = None) -> tuple[str, Architecture]:
    """The Hugging Face model type and architecture of a shape; ValueError where there is none.

    Where several fit, `model_type` chooses, and otherwise the first.
    """
    if model_type is not None:
        choose("Hugging Face model_type", ARCHITECTURES, model_type)
    alike = {
        name: architecture
        for name, architecture in ARCHITECTURES.items()
        if (architecture.kind, architecture.positions) == (shape.kind, shape.positions_kind)
        and model_type in (None, name)
    }
    if alike:
        able = [name for name, architecture in alike.items() if not _faults(shape, architecture)]
        normed = [name for name, architecture in alike.items() if architecture.norm == shape.norm_kind]
        name = (able or normed or list(alike))[0]
        return name, alike[name]
    if model_type is not None:
        raise ValueError(
            f"a {ARCHITECTURES[model_type].model_class} is no model of kind {shape.kind} with model.positions="
            f"{shape.positions}; leave --model-type out"
        )
    has = "; ".join(f"{a.kind} with {a.positions} ({a.model_class})" for a in ARCHITECTURES.values())
    raise ValueError(
        f"model.positions={shape.positions}: no Hugging Face class that is known here is a model of kind {shape.kind} "
        f"with such positions; train one of {has}"
    )


def setting_name(field: str) -> str:
    """The command line's name of a shape's field."""
    if field == "next_sentence":
        return f"objective.{field}"
    common = {known.name for known in fields(TransformerShape)}
    return f"model.{field}" if field in common else f"model.family.{field}"


def to_theirs(shape: TransformerShape, architecture: Architecture) -> dict[str, Any]:
    """Hugging Face's settings of a shape; ValueError names every setting of ours that the class does not support."""
    if faults := _faults(shape, architecture):
        raise ValueError(
            f"{architecture.model_class} cannot say {'; '.join(faults)}; train with model={architecture.preset} to "
            f"export as one"
        )
    _, eps = kind_and_number(shape.norm)
    theirs: dict[str, Any] = {}
    for ours, names in architecture.fields.items():
        value = getattr(shape, ours)
        if ours == "context":
            value = max(tower.tokens for tower in shape.towers())
        theirs |= dict.fromkeys(names, value)
    if architecture.norm_eps:
        theirs[architecture.norm_eps] = eps
    if architecture.activation:
        theirs[architecture.activation] = ACTIVATION_NAMES[shape.activation]
    if architecture.head_width:
        theirs[architecture.head_width] = shape.head_width
    if architecture.positions == "rotary":
        theirs["rope_parameters"] = {"rope_type": "default", "rope_theta": kind_and_number(shape.positions)[1]}
        if architecture.rotary_pct:
            theirs["rope_parameters"][architecture.rotary_pct] = shape.rotary_pct
    return theirs | dict(architecture.theirs_fixed) | dict(architecture.on_export)


def _faults(shape: TransformerShape, architecture: Architecture) -> list[str]:
    """Settings of ours that the class does not support, in words."""
    faults = [
        f"{setting_name(name)}={str(getattr(shape, name)).lower()} where it has only {str(value).lower()}"
        for name, value in architecture.only().items()
        if getattr(shape, name) != value
    ]
    norm, eps = kind_and_number(shape.norm)
    if norm != architecture.norm or (architecture.norm_eps is None and eps != NUMBERS[norm]):
        faults.append(f"model.norm={shape.norm} where it has only {architecture.norm}")
    if "n_kv_heads" not in architecture.fields and shape.n_kv_heads != shape.n_heads:
        faults.append(f"model.n_kv_heads={shape.n_kv_heads} where it has only as many as model.n_heads={shape.n_heads}")
    if architecture.activation and shape.activation not in ACTIVATION_NAMES:
        faults.append(f"model.activation={shape.activation} where it has {', '.join(ACTIVATION_NAMES)}")
    return faults


def to_ours(config: Any, architecture: Architecture) -> dict[str, Any]:
    """Our settings of a Hugging Face configuration; ValueError names every setting of theirs that we do not support.

    Dropout does not change the outputs of the weights: of several rates of theirs, ours is the first.
    """
    faults = [
        f"{name}={getattr(config, name)!r} where only {value!r} is"
        for name, value in architecture.theirs_fixed.items()
        if getattr(config, name, value) != value
    ]
    ours: dict[str, Any] = {}
    for name, theirs in architecture.fields.items():
        values = {their: getattr(config, their) for their in theirs}
        ours[name] = values[theirs[0]]
        if name != "dropout" and len(set(values.values())) > 1:
            faults.append(f"{' and '.join(f'{k}={v}' for k, v in values.items())}, which are one setting here")
    if architecture.window and (window := getattr(config, architecture.window)):
        ours["context"] = min(ours["context"], window)  # within the window attention sees every earlier token
    if ours["d_ff"] is None:  # GPT-2's null stands for four times the width
        ours["d_ff"] = 4 * ours["d_model"]
    ours.setdefault("n_kv_heads", ours["n_heads"])
    ours.setdefault("bias", architecture.always_biased)
    ours |= architecture.only()
    ours["norm"] = architecture.norm
    if architecture.norm_eps:
        ours["norm"] = _with_number(architecture.norm, getattr(config, architecture.norm_eps))
    if architecture.activation:
        activation = getattr(config, architecture.activation)
        known = {theirs: name for name, theirs in ACTIVATION_NAMES.items()} | OTHER_ACTIVATION_NAMES
        if activation not in known:
            faults.append(f"{architecture.activation}={activation!r} where only {', '.join(known)} are")
        ours["activation"] = known.get(activation)
    if architecture.head_width:
        width = getattr(config, architecture.head_width)
        if width * ours["n_heads"] != ours["d_model"]:
            faults.append(f"{architecture.head_width}={width}, which is not the model's width over its heads")
    ours["positions"] = architecture.positions
    if architecture.positions == "rotary":
        rope: Mapping[str, Any] = config.rope_parameters
        if rope["rope_type"] != "default":
            faults.append(f"rope_type={rope['rope_type']!r} where only 'default' is")
        ours["positions"] = _with_number("rotary", rope["rope_theta"])
        if architecture.rotary_pct:
            ours["rotary_pct"] = float(rope.get(architecture.rotary_pct, 1.0))
    if faults:
        raise ValueError(
            f"this {architecture.model_class} has no equivalent here: {'; '.join(faults)}; choose a checkpoint without"
        )
    return ours


def window_words(config: Any, architecture: Architecture) -> str:
    """The window of a checkpoint's attention that limits its context here, in words; empty without one."""
    window = getattr(config, architecture.window) if architecture.window else None
    (context,) = architecture.fields.get("context", ("",))
    if not window or window >= getattr(config, context):
        return ""
    return (
        f"{architecture.window}={window} of {context}={getattr(config, context)}: the context here is {window} tokens, "
        f"within which attention sees every earlier one"
    )


def _with_number(kind: str, number: float) -> str:
    return kind if number == NUMBERS[kind] else f"{kind}:{number!r}"

"""Reading of a published checkpoint, from a folder or the hub: safetensors only, every weight accounted for."""

import json
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from scaling.hf import transformers_library
from scaling.hf.architecture import Architecture
from scaling.hf.architectures import ARCHITECTURES
from scaling.hf.weights import COMPUTED
from scaling.registry import choose

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Published:
    """A published checkpoint with Hugging Face's configuration and weights."""

    origin: str
    folder: Path
    architecture: Architecture
    config: Any
    weights: dict[str, Tensor]
    file_sha256: dict[str, str]  # digest of each safetensors file, by name
    unused: tuple[str, ...]  # weights in the files that the class does not have


def read_published(source: str, revision: str | None = None) -> Published:
    """Read a checkpoint; one-line ValueError for missing, mismatched or pickled weights and for unknown classes.

    `revision` is a branch, tag or commit of the hub.
    """
    transformers = transformers_library()
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision}: {source} is a folder here, and a revision is of a name on the hub")
        folder, origin = Path(source), str(Path(source).resolve())
    else:
        folder, origin = _fetch(source, revision)
    try:
        model_type = json.loads((folder / "config.json").read_text())["model_type"]
    except FileNotFoundError:
        raise ValueError(f"{source} holds no config.json; give the folder that save_pretrained wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: its config.json names no model_type ({type(error).__name__}: {error})") from error
    architecture = choose("Hugging Face model_type", ARCHITECTURES, model_type)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        if pickled := [path.name for pattern in PICKLED for path in sorted(folder.glob(pattern))]:
            raise ValueError(
                f"{source} holds pickled weights ({', '.join(pickled)}), which can run any code when read, and no "
                f"safetensors; where you trust them: transformers.{architecture.model_class}.from_pretrained(...)"
                f".save_pretrained(...) writes safetensors"
            )
        raise ValueError(f"{source} holds no safetensors; give the folder that save_pretrained wrote")
    model_class = getattr(transformers, architecture.model_class)
    try:
        model, loading = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the error below names all mismatched weights
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{source} cannot be read as a {architecture.model_class}: {_one_line(error)}") from error
    if missing := sorted(key for key in loading["missing_keys"] if not key.endswith(COMPUTED)):
        raise ValueError(f"{source} lacks weights of a {architecture.model_class}: {_some(missing)}")
    if mismatched := sorted(str(key) for key in loading["mismatched_keys"]):
        raise ValueError(f"{source} holds weights of another shape than its config.json says: {_some(mismatched)}")
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.name] = file_digest(file, "sha256").hexdigest()
    unused = tuple(sorted(loading["unexpected_keys"]))
    return Published(origin, folder, architecture, model.config, dict(model.state_dict()), digests, unused)


def _fetch(name: str, revision: str | None) -> tuple[Path, str]:
    """Fetch a model of the hub without pickled files; return its folder, and its name with its commit."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # network, hub and name raise errors of many classes
        at = "" if revision is None else f" at revision={revision}"
        raise ValueError(f"{name} is no folder here, and the hub gave no such model{at}: {_one_line(error)}") from error
    return folder, f"{name}@{folder.name}"


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

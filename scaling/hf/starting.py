"""A published checkpoint as the start of continued pretraining: its weights in our layout, in a folder of the cache."""

import json
import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from scaling.data.pretrained import find_pretrained
from scaling.hf.importing import configured, loaded
from scaling.hf.reading import read_published
from scaling.plan.parents import START
from scaling.records.files import scratch_folder
from scaling.spec.run_spec import to_dict
from scaling.train import checkpoint

FOLDER = "starts"  # in the cache
ANY_SIZE = 1 << 32  # vocabulary that holds the ids of every tokenizer


def fetch_start(source: str, cache_dir: Path) -> Path:
    """The folder of a published checkpoint's weights, for `init_from`; `source` is a folder, NAME or NAME@REVISION.

    ValueError for a checkpoint that cannot be read or has no equivalent here.
    """
    name, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    published = read_published(name, revision or None)
    # A decoder's model does not depend on data; the presets of the others name objectives that ask for text.
    data = (
        ["data=synthetic", "data.vocab_size=2", "data.source.order=1"]
        if published.architecture.kind == "decoder"
        else []
    )
    run = configured(published, data, train_tokens=1)
    model = loaded(published, run.spec.model)
    weights_sha256 = checkpoint.weights_digest(model)
    folder = cache_dir / FOLDER / weights_sha256[:12]
    if (folder / START).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    prepared = scratch_folder(folder.parent, folder.name)
    try:
        checkpoint.save_weights(prepared, model)
        start = {
            "origin": published.origin,
            "class": published.architecture.model_class,
            "file_sha256": published.file_sha256,
            "weights_sha256": weights_sha256,
            "tokenizers": _tokenizers(published.folder),
            "spec": to_dict(run.spec),
        }
        (prepared / START).write_text(json.dumps(start, indent=1))
        with suppress(OSError):  # another process was first, with the same weights
            os.rename(prepared, folder)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
    return folder


def _tokenizers(folder: Path) -> list[str]:
    """Digests of the checkpoint's tokenizer.json, as the file stands and as the library writes it; none without one."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return []
    found = [sha256(path.read_bytes()).hexdigest()]
    with suppress(ValueError):
        found.append(find_pretrained(str(folder), None, ANY_SIZE).sha256)
    return found

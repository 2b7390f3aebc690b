"""The cache of prepared data: one folder a data set, named by the digest of its spec, checked when it is opened."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.manifest import Manifest, check_file, read_manifest
from scaling.data.pretrained import PRETRAINED, PretrainedTokenizer
from scaling.data.token_source import id_type
from scaling.data.tokenizers import TOKENIZERS, Tokenizer
from scaling.spec.run_spec import DataSpec

NO_TOKENIZER = "none"
LAYOUT = 2  # version of a cache folder's format; raised when the code writes another


@dataclass(frozen=True)
class TokenData:
    """Both splits, memory-mapped, shape (tokens,): uint16, or uint32 for a vocabulary above 65,536."""

    train: "np.memmap[Any, np.dtype[Any]]"
    val: "np.memmap[Any, np.dtype[Any]]"
    manifest: Manifest
    folder: Path

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens; ValueError for a token source."""
        return load_tokenizer(self.manifest, self.folder)


def load_tokenizer(manifest: Manifest, folder: Path) -> Tokenizer:
    """The tokenizer of prepared data; ValueError for a token source."""
    name, path, vocab_size = manifest.tokenizer, folder / "tokenizer.json", manifest.vocab_size
    if name == NO_TOKENIZER:
        raise ValueError("this data came as tokens; their tokenizer is not known")
    assert manifest.tokenizer_sha256 is not None
    check_file(path, manifest.tokenizer_sha256, None)
    if name == PRETRAINED:
        assert manifest.end_id is not None
        return PretrainedTokenizer.load(path, vocab_size, manifest.end_id)
    return TOKENIZERS[name].load(path, vocab_size)


def manifest(spec: DataSpec, cache_dir: Path) -> Manifest | None:
    """The manifest of the data prepared for `spec`, or None when the cache holds no complete data.

    Only the sizes of the token files are checked; `prepared` checks their content.
    """
    try:
        contents, _ = _read(cache_dir / digest(spec))
    except (FileNotFoundError, ValueError):
        return None
    return contents


def _read(folder: Path) -> tuple[Manifest, dict[str, str]]:
    """The manifest and digests of a folder; FileNotFoundError where there is none, ValueError names what is torn."""
    contents, digests = read_manifest(folder)
    width = np.dtype(id_type(contents.vocab_size)).itemsize
    for split, tokens in (("train", contents.train_tokens), ("val", contents.val_tokens)):
        path = folder / f"{split}.bin"
        size = path.stat().st_size if path.is_file() else 0
        if size != tokens * width:
            raise ValueError(f"{path} is damaged: it has {size:,} bytes, not {tokens * width:,}")
    return contents, digests


def digest(spec: DataSpec) -> str:
    """The name of a data set's folder in the cache."""
    text = f"{LAYOUT} {json.dumps(asdict(spec), sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepared(spec: DataSpec, cache_dir: Path) -> TokenData | None:
    """The tokens of `spec` in the cache, or None when the cache holds none; ValueError names a damaged file.

    A large file is read and checked once: until its size, time of change or inode changes, the digest in the cache's
    memory stands for it.
    """
    folder = cache_dir / digest(spec)
    try:
        contents, digests = _read(folder)
    except FileNotFoundError:
        return None
    for name, sha256 in digests.items():
        check_file(folder / name, sha256, memory_of(cache_dir))
    kind = id_type(contents.vocab_size)
    train, val = (np.memmap(folder / f"{split}.bin", dtype=kind, mode="r") for split in ("train", "val"))
    return TokenData(train=train, val=val, manifest=contents, folder=folder)


def memory_of(cache_dir: Path) -> Path:
    """The folder in the cache that keeps the digests of large files, see `file_sha256`."""
    return cache_dir / "fingerprints"

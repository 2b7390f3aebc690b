"""Preparation of token files from a source: split, tokenise, and cache under the spec's digest.

A document is held out for validation when the hash of its text, as a fraction, lies below `val_fraction`; the
lowest hash always is and the highest never. So copies of a document share a split, and the order of files changes
nothing, not even the order of tokens. Noise and duplicates come last: they change the training tokens alone, after
the tokenizer is learned, so that every loss is measured on the validation tokens of the clean data.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import NO_TOKENIZER, TokenData, digest, memory_of, prepared
from scaling.data.manifest import Manifest, write_manifest
from scaling.data.pretrained import PRETRAINED, PretrainedTokenizer, configured_pretrained
from scaling.data.progress import Meter
from scaling.data.publish import drafting
from scaling.data.quality import Repeated, add_noise, check_quality, occurrences
from scaling.data.sources import Source, TextSource
from scaling.data.spool import Spool, split_documents
from scaling.data.token_source import Ids, TokenSource, id_type
from scaling.data.tokenizers import END_ID, TOKENIZERS, Tokenizer, in_chunks
from scaling.registry import choose
from scaling.spec.run_spec import DataSpec


@dataclass(frozen=True)
class DataConfig:
    """Settings of a data set: its source, tokenizer and split, and how the training data are made worse.

    The defaults of the last five fields leave the data as they are.
    """

    source: Source
    tokenizer: str
    vocab_size: int
    val_fraction: float
    tokenizer_path: str | None = None  # pretrained tokenizer: a tokenizer.json, a folder or a name on the hub
    end_token: str | None = None  # token that ends a document; None for the pretrained tokenizer's own
    noise: float = 0.0  # share of the training tokens drawn at random
    duplicate: float = 0.0  # share of the training documents that are copies of others
    quality_seed: int = 0  # decides which tokens and documents


def identify(config: DataConfig, cache_dir: Path | None = None) -> DataSpec:
    """The spec of the configured data, from its content alone, without tokenising.

    `cache_dir`, where given, keeps the hashes of large files. Raises ValueError for settings that no data can
    meet and for paths that are missing, empty or of an unknown kind.
    """
    source = config.source
    if not 0 < config.val_fraction < 1:
        raise ValueError(f"val_fraction must lie between 0 and 1, got {config.val_fraction}")
    check_quality(config.noise, config.duplicate, config.quality_seed)
    if config.duplicate and not isinstance(source, TextSource):
        raise ValueError(
            f"data.duplicate={config.duplicate}: a {source.kind} source knows no documents to repeat; "
            "set data.duplicate=0"
        )
    val_fraction = config.val_fraction
    tokenizer_sha256, end_id = None, None
    pretrained = _pretrained(config)
    if isinstance(source, TextSource):
        if pretrained is None:
            choose("tokenizer", {**TOKENIZERS, PRETRAINED: None}, config.tokenizer)
            TOKENIZERS[config.tokenizer].check(config.vocab_size)
            end_id = END_ID
        else:
            tokenizer_sha256, end_id = pretrained.sha256, pretrained.end_id
    else:
        if config.tokenizer != NO_TOKENIZER:
            raise ValueError(
                f"source {source.kind} is tokens already: tokenizer {config.tokenizer!r} has nothing to do; "
                f"set data.tokenizer={NO_TOKENIZER}"
            )
        if config.vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2, got {config.vocab_size}")
        source.check(config.vocab_size)
        if not source.holds_out():
            val_fraction = 0.0
    memory = None if cache_dir is None else memory_of(cache_dir)
    return DataSpec(
        kind=source.kind,
        fingerprint=source.fingerprint(memory),
        tokenizer=config.tokenizer,
        tokenizer_sha256=tokenizer_sha256,
        end_id=end_id,
        vocab_size=config.vocab_size,
        val_fraction=val_fraction,
        noise=float(config.noise),
        duplicate=float(config.duplicate),
        quality_seed=config.quality_seed if config.noise or config.duplicate else 0,
    )


def known_specials(config: DataConfig) -> dict[str, int]:
    """Special tokens and ids of the configured pretrained tokenizer; empty for every other tokenizer."""
    pretrained = _pretrained(config)
    return {} if pretrained is None else pretrained.special


def _pretrained(config: DataConfig) -> PretrainedTokenizer | None:
    return configured_pretrained(config.tokenizer, config.tokenizer_path, config.end_token, config.vocab_size)


def prepare(config: DataConfig, spec: DataSpec, cache_dir: Path, *, progress: bool) -> TokenData:
    """The tokens of `spec`, from the cache, or made from `config` and cached; damaged ones are made again.

    Several processes may call this at once; a killed call leaves only a draft, which a later call removes.
    Raises ValueError for content that cannot be used, and for content that no longer matches `spec`.
    """
    try:
        data, damage = prepared(spec, cache_dir), ""
    except ValueError as error:
        data, damage = None, str(error)
        print(f"warning: {damage}; making the data again from its source", file=sys.stderr, flush=True)
    if data is None:
        try:
            _make(config, spec, cache_dir, progress=progress)
        except (OSError, ValueError) as error:
            if not damage:
                raise
            raise ValueError(
                f"{damage}, and the data cannot be made again ({error}): put back the source, or a whole copy of it"
            ) from error
        data = prepared(spec, cache_dir)
    assert data is not None
    return data


def _make(config: DataConfig, spec: DataSpec, cache_dir: Path, *, progress: bool) -> None:
    with (
        drafting(cache_dir / digest(spec), complete=lambda: _is_whole(spec, cache_dir)) as draft,
        Meter(progress) as meter,
    ):
        if isinstance(config.source, TextSource):
            made = _tokenise(config, config.source, spec, draft, meter)
        else:
            made = _collect(config.source, spec, draft, cache_dir, meter)
        now = identify(config, cache_dir)
        if now != spec:
            raise ValueError(f"the data is not what was planned: {now} instead of {spec}; plan again")
        write_manifest(made, draft)


def _is_whole(spec: DataSpec, cache_dir: Path) -> bool:
    try:
        return prepared(spec, cache_dir) is not None
    except ValueError:
        return False


def _tokenise(config: DataConfig, source: TextSource, spec: DataSpec, draft: Path, meter: Meter) -> Manifest:
    size = source.content_bytes()
    read = 0
    meter.begin("reading text", size)
    with Spool(draft / "spool", size) as spool:
        for text in source.documents():
            meter.advance(spool.add(text))
            read += 1
    splits = split_documents(spool, spec.val_fraction)
    counts = {name: len(documents) for name, documents in splits.items()}
    tokenizer: Tokenizer | None = _pretrained(config)
    if tokenizer is None:
        meter.begin(f"learning tokenizer {spec.tokenizer}", size)
        tokenizer = TOKENIZERS[spec.tokenizer].learn(_counted(splits["train"], meter), spec.vocab_size)
    tokenizer.save(draft / "tokenizer.json")
    training = None
    if spec.duplicate:
        times = occurrences(counts["train"], spec.duplicate, spec.quality_seed)
        training = Repeated(splits["train"].ranked, times, Spool(draft / "copies", size))
    meter.begin("writing tokens", size)
    uses, sizes = {}, {}
    for name, documents in (("train", splits["train"] if training is None else training), ("val", splits["val"])):
        uses[name] = np.zeros(spec.vocab_size, dtype=np.int64)
        sizes[name] = counts[name]  # one byte for each document's end marker
        with (draft / f"{name}.bin").open("wb") as file:
            for chunk in in_chunks(_counted(documents, meter)):
                sizes[name] += sum(len(text.encode()) for text in chunk)
                uses[name] += _write(tokenizer.encode_documents(chunk), file, spec.vocab_size)
            _settle(file)
    train_tokens, copies, copied_tokens = int(uses["train"].sum()), 0, 0
    if training is not None:
        for chunk in in_chunks(training.copies()):
            copies += len(chunk)
            copied_tokens += len(tokenizer.encode_documents(chunk))
        shutil.rmtree(draft / "copies")
    shutil.rmtree(spool.folder)
    noisy, used = _spoil(draft / "train.bin", spec)
    return Manifest(
        digest=digest(spec),
        tokenizer=spec.tokenizer,
        vocab_size=spec.vocab_size,
        used_vocabulary=used,
        train_tokens=train_tokens,
        unique_train_tokens=train_tokens - copied_tokens,
        noisy_train_tokens=noisy,
        val_tokens=int(uses["val"].sum()),
        train_bytes=sizes["train"],
        val_bytes=sizes["val"],
        train_documents=counts["train"],
        duplicate_train_documents=copies,
        val_documents=counts["val"],
        dropped_documents=read - sum(counts.values()),
        unknown_val_tokens=0 if tokenizer.unknown_id is None else int(uses["val"][tokenizer.unknown_id]),
        entropies_nats=None,
        tokenizer_sha256=hashlib.sha256((draft / "tokenizer.json").read_bytes()).hexdigest(),
        end_id=tokenizer.end_id,
    )


def _spoil(train: Path, spec: DataSpec) -> tuple[int, int]:
    """Put noise into the training tokens; return how many were replaced, and the distinct ids afterwards."""
    noisy = add_noise(train, spec.noise, spec.vocab_size, spec.quality_seed) if spec.noise else 0
    used = np.zeros(spec.vocab_size, dtype=bool)
    tokens = np.memmap(train, dtype=id_type(spec.vocab_size), mode="r")
    for start in range(0, len(tokens), 1 << 22):
        used[tokens[start : start + (1 << 22)]] = True
    return noisy, int(np.count_nonzero(used))


def _counted(documents: Iterable[str], meter: Meter) -> Iterator[str]:
    for text in documents:
        meter.advance(len(text))
        yield text


def _write(ids: Ids, file: BinaryIO, vocab_size: int) -> NDArray[np.int64]:
    file.write(ids.tobytes())
    return np.bincount(ids, minlength=vocab_size)


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _collect(source: TokenSource, spec: DataSpec, draft: Path, cache_dir: Path, meter: Meter) -> Manifest:
    meter.begin("writing tokens", source.content_tokens())
    with (draft / "train.bin").open("wb") as train, (draft / "val.bin").open("wb") as val:
        written = source.write(train, val, spec, memory_of(cache_dir), meter.advance)
        _settle(train)
        _settle(val)
    kind = np.dtype(id_type(spec.vocab_size))
    train_tokens, val_tokens = ((draft / f"{split}.bin").stat().st_size // kind.itemsize for split in ("train", "val"))
    if not train_tokens or not val_tokens:
        raise ValueError(
            f"too few tokens to split: found {train_tokens + val_tokens} ({train_tokens} for training, "
            f"{val_tokens} for validation), needed at least 1 in each; add tokens, or change val_fraction"
        )
    noisy, used = _spoil(draft / "train.bin", spec)
    return Manifest(
        digest=digest(spec),
        tokenizer=spec.tokenizer,
        vocab_size=spec.vocab_size,
        used_vocabulary=used,
        train_tokens=train_tokens,
        unique_train_tokens=train_tokens,
        noisy_train_tokens=noisy,
        val_tokens=val_tokens,
        train_bytes=None,
        val_bytes=None,
        train_documents=written.train_documents,
        duplicate_train_documents=0,
        val_documents=written.val_documents,
        dropped_documents=written.dropped_documents,
        unknown_val_tokens=0,
        entropies_nats=written.entropies_nats,
        tokenizer_sha256=None,
        end_id=None,
        truth=written.truth,
    )

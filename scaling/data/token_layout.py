"""Layout of a token file: the type of its ids, stated by a header, by .npy, by the user, or inferred from the bytes.

The upper half of an integer that holds an id is nearly always 0 or small, and a sequence of ids is no such
alternation. So ids of 32 bits read as ids of 16 show, and the reverse shows by ids outside the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.token_source import Ids
from scaling.registry import choose

SETTING = "data.source.dtype"
BYTE_ORDERS = {"": "<", "-be": ">"}
DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1")} | {
    f"{name}{ending}": np.dtype(f"{order}{code}")
    for ending, order in BYTE_ORDERS.items()
    for name, code in {"uint16": "u2", "uint32": "u4", "int32": "i4", "int64": "i8"}.items()
}
HEADER = "its header"  # states a type, where the setting does not
HEADER_BYTES = 256 * 4
# llm.c, dev/data/data_common.py: the header's int32s begin (magic, version, number of tokens)
LLM_C = {(20240520, 1): "uint16", (20240801, 7): "uint32"}
NPY = b"\x93NUMPY"
# First bytes of files that hold no raw ids.
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive, as numpy.savez and torch.save write",
    b"\x1f\x8b\x08": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"MMIDIDX": "the index of a Megatron file, whose ids are in the .bin beside it",
}
SAMPLE_BLOCKS, BLOCK_BYTES = 16, 1 << 14
ENOUGH = 64  # pairs of ids that show an alternation
UPPER_HALVES = (0, 15)  # upper halves of 32-bit ids are nearly always up to these, for small and for large vocabularies
NEARLY_ALWAYS, NOT_ALWAYS = 0.99, 0.9  # shares


@dataclass(frozen=True)
class Layout:
    """The type of a file's ids, and the byte where the first begins."""

    name: str
    dtype: np.dtype[Any]
    offset: int
    stated_by: str  # "its header" or the setting; empty where the bytes alone show the type

    @property
    def is_in_file(self) -> bool:
        """Whether the file itself states the type."""
        return self.stated_by == HEADER


def layout_of(path: Path, asked: str | None) -> Layout:
    """The layout of a file, as its header states, as `asked`, or inferred; ValueError names what is wrong.

    `asked` is a name of DTYPES.
    """
    if asked is not None:
        choose(SETTING, DTYPES, asked)
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if other := next((words for magic, words in OTHER_FILES.items() if head.startswith(magic)), ""):
        raise ValueError(f"{path} is {other}; give the ids as a .npy file or as raw integers")
    stated = _npy(path, head) or _llm_c(path, head)
    if stated is not None:
        if asked not in (None, stated.name):
            raise ValueError(f"{SETTING}={asked}, but the header of {path} states {stated.name}; set {SETTING}=null")
        return stated
    if asked is not None:
        return _whole(path, Layout(asked, DTYPES[asked], 0, SETTING))
    return _whole(path, Layout(name := _inferred(path), DTYPES[name], 0, ""))


def open_ids(path: Path, layout: Layout) -> Ids:
    """The memory-mapped ids of a file."""
    return np.memmap(path, dtype=layout.dtype, mode="r", offset=layout.offset)


def check(path: Path, layout: Layout, vocab_size: int) -> None:
    """ValueError, with the setting that mends it, where a sample shows that ids of this type are not meant."""
    largest = np.iinfo(layout.dtype).max
    if vocab_size - 1 > largest:
        raise ValueError(
            f"{path}: its {layout.name} ids reach {largest:,}, below data.vocab_size={vocab_size}, so that larger ids "
            f"were wrapped when the file was written: write it again as uint32, or set data.vocab_size={largest + 1} "
            f"or less if no id was larger"
        )
    ids = _sample(path, layout)
    outside = _outside(ids, vocab_size)
    alternates = len(ids) >= 2 * ENOUGH and _zeros_at(ids) is not None
    if not (alternates or outside.any()):
        return
    fitting = [name for name in DTYPES if _fits(path, name, layout.offset, vocab_size)]
    if alternates:
        found = "every second id is nearly always 0, as the upper halves of wider ids are"
        remedy = "; where ids do alternate so, give them as a .npy file of int64"
    elif fitting:
        found = f"token ids lie outside data.vocab_size={vocab_size}, {ids[outside][0]} among them"
        remedy = ""
    else:
        return  # reading names the first id outside
    if layout.is_in_file:
        advice = "write the file again with the type that the ids have"
    elif fitting:
        advice = f"read as {fitting[0]} all ids fit: set {SETTING}={fitting[0]}"
    else:
        advice = f"set {SETTING} to the type that the file was written with ({', '.join(DTYPES)})"
    raise ValueError(f"{path}: read as {layout.name}, {found}; {advice}{remedy}")


def _npy(path: Path, head: bytes) -> Layout | None:
    if not head.startswith(NPY):
        if path.suffix == ".npy":
            raise ValueError(f"{path} is no .npy file: it does not begin as numpy.save begins one; write it again")
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as .npy (cut short?): {' '.join(str(error).split())}") from error
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}, not integers in one row; save ids.reshape(-1) as "
            f"integers"
        )
    bits, ending = 8 * array.dtype.itemsize, "-be" if array.dtype.str[0] == ">" else ""
    name = f"{'u' if array.dtype.kind == 'u' else ''}int{bits}{ending}"
    return Layout(name, array.dtype, int(array.offset), HEADER)


def _llm_c(path: Path, head: bytes) -> Layout | None:
    """The layout that llm.c's header states, in either byte order; ValueError for a header of an unknown kind."""
    if len(head) < HEADER_BYTES:
        return None
    held = path.stat().st_size - HEADER_BYTES
    for ending, order in BYTE_ORDERS.items():
        words = np.frombuffer(head, dtype=f"{order}i4")
        magic, version, count = (int(word) for word in words[:3])
        if (kind := LLM_C.get((magic, version))) is not None:
            dtype = DTYPES[kind + ending]
            if held != count * dtype.itemsize or count == 0:
                tokens = held / dtype.itemsize
                raise ValueError(f"{path}: the llm.c header promises {count} tokens, the file holds {tokens:g}")
            return Layout(kind + ending, dtype, HEADER_BYTES, HEADER)
        known = f"known are {sorted(LLM_C)} (magic, version)"
        if magic in {magic for magic, _ in LLM_C}:
            raise ValueError(f"{path}: llm.c version {version} is unknown; {known}")
        if magic and count > 0 and not words[3:].any() and held in (count, 2 * count, 4 * count, 8 * count):
            raise ValueError(
                f"{path} begins with a header of an unknown kind (magic {magic}, version {version}, {count} tokens); "
                f"{known}: save the ids as a .npy file"
            )
    return None


def _whole(path: Path, layout: Layout) -> Layout:
    size, width = path.stat().st_size, layout.dtype.itemsize
    if size % width:
        raise ValueError(
            f"{path}: {size} bytes is no whole number of {layout.name} tokens; copy the file again if it was cut "
            f"short, or set {SETTING} to another type ({', '.join(DTYPES)})"
        )
    return layout


def _inferred(path: Path) -> str:
    """The type of raw ids without a header: as wide as the alternation of their halves shows, or uint16."""
    name = "uint16"
    for wider in ("uint32", "int64"):
        ids = _sample(path, Layout(name, DTYPES[name], 0, ""))
        if _zeros_at(ids) != 1:
            break
        if len(ids) < 2 * ENOUGH:
            raise ValueError(
                f"{path}: {path.stat().st_size} bytes are too few to show whether ids are {name} or {wider}; set "
                f"{SETTING}={name} or {SETTING}={wider}"
            )
        name = wider
    return name


def _zeros_at(ids: Ids) -> int | None:
    """The half, 0 or 1, of the pairs of ids that is nearly always small where the other is not; None without one."""
    pairs = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    if not len(pairs):
        return None
    for most in UPPER_HALVES:
        first, second = np.mean((pairs >= 0) & (pairs <= most), axis=0)
        if min(first, second) < NOT_ALWAYS and max(first, second) >= NEARLY_ALWAYS:
            return int(second > first)
    return None


def _fits(path: Path, name: str, offset: int, vocab_size: int) -> bool:
    """Whether a sample of the file, read as this type, has its ids in the vocabulary and no alternation."""
    dtype = DTYPES[name]
    if (path.stat().st_size - offset) % dtype.itemsize or vocab_size - 1 > np.iinfo(dtype).max:
        return False
    ids = _sample(path, Layout(name, dtype, offset, ""))
    return not _outside(ids, vocab_size).any() and _zeros_at(ids) is None


def _outside(ids: Ids, vocab_size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return (ids < 0) | (ids >= vocab_size)


def _sample(path: Path, layout: Layout) -> Ids:
    """Ids of blocks that are spread over the file, each of which begins at an even id."""
    with path.open("rb") as file:
        blocks = [np.frombuffer(block, dtype=layout.dtype) for block in _blocks(file, path.stat().st_size, layout)]
    return np.concatenate(blocks)


def _blocks(file: Any, size: int, layout: Layout) -> Iterator[bytes]:
    held, pair = size - layout.offset, 2 * layout.dtype.itemsize
    starts = (held * k // SAMPLE_BLOCKS for k in range(SAMPLE_BLOCKS)) if held > SAMPLE_BLOCKS * BLOCK_BYTES else (0,)
    for start in starts:
        file.seek(layout.offset + start // pair * pair)
        block = file.read(BLOCK_BYTES if held > SAMPLE_BLOCKS * BLOCK_BYTES else held)
        yield block[: len(block) // layout.dtype.itemsize * layout.dtype.itemsize]

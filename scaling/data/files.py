"""Input files: paths and globs to files, files to sha256, bytes to text."""

import difflib
import glob
import hashlib
import re
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

READ_BYTES = 1 << 20
REMEMBER_BYTES = 1 << 24
SETTLED_S = 2.0  # a file changed more recently may change again within one tick of its clock
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def find_files(paths: Sequence[str], suffixes: Collection[str]) -> tuple[Path, ...]:
    """The distinct files that `paths` (files or globs) name, sorted by path.

    Raises ValueError for a path that is missing, empty, a folder or of another suffix, and for a glob that
    matches nothing.
    """
    if isinstance(paths, str) or not paths:
        raise ValueError(f"paths must be a list of files or globs, got {paths!r}")
    files = sorted({file.resolve() for path in paths for file in _expand(path, suffixes)})
    for file in files:
        if file.suffix not in suffixes:
            raise ValueError(f"{file}: unknown kind of file {file.suffix!r}; choose from {', '.join(suffixes)}")
        if file.stat().st_size == 0:
            raise ValueError(f"{file} is empty (0 bytes); remove it from the paths or fill it")
    return tuple(files)


def _expand(path: str, suffixes: Collection[str]) -> list[Path]:
    exact = Path(path).expanduser()
    if exact.is_file():
        return [exact]
    if exact.is_dir():
        ending = next((s for s in suffixes if any(exact.glob(f"*{s}"))), sorted(suffixes)[0])
        raise ValueError(f"{path} is a folder; name its files, for example {path.rstrip('/')}/*{ending}")
    if glob.has_magic(path):
        matches = [Path(name) for name in glob.glob(str(exact), recursive=True)]
        files = [match for match in matches if match.is_file()]
        if files:
            return files
        fixed = exact
        while glob.has_magic(str(fixed)):
            fixed = fixed.parent
        raise ValueError(f"{path} matches no file; {nearest_names(fixed / exact.name)}")
    raise ValueError(f"{path} does not exist; {nearest_names(exact)}")


def nearest_names(missing: Path) -> str:
    """The existing names nearest to a missing path, with their folder, in words."""
    folder = missing.parent
    while not folder.is_dir():
        folder = folder.parent
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(missing.name, names, n=3) or names[:5]
    if not near:
        return f"{folder.resolve()} is an empty folder"
    return f"{folder.resolve()} holds {', '.join(near)}" + (", …" if len(names) > len(near) else "")


def local_path(name: str) -> Path | None:
    """The local file or folder `name`; None when `name` can only be a name on the Hugging Face Hub (owner/name).

    Raises ValueError when `name` is neither.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if HUB_NAME.fullmatch(name):
        return None
    raise ValueError(f"{name} does not exist; {nearest_names(path)}")


def file_sha256(path: Path, memory: Path | None) -> str:
    """The sha256 of a file; `memory` keeps the digests of large files by path, size, time of change and inode."""
    stat = path.stat()
    settled = time.time() - stat.st_mtime > SETTLED_S
    remember = memory is not None and settled and stat.st_size >= REMEMBER_BYTES
    if not remember or memory is None:
        return _hash_file(path)
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    note = memory / hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        return note.read_text()
    except FileNotFoundError:
        digest = _hash_file(path)
    memory.mkdir(parents=True, exist_ok=True)
    draft = note.with_suffix(f".{time.time_ns()}")
    draft.write_text(digest)
    draft.replace(note)
    return digest


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combine(label: str, digests: Iterable[str]) -> str:
    """One sha256 of a set of digests in any order; `label` names their meaning."""
    return hashlib.sha256("\n".join([label, *sorted(set(digests))]).encode()).hexdigest()


def decode(content: bytes, path: Path, start: int) -> str:
    """The UTF-8 text of `content`, read at byte `start` of `path`; ValueError names a byte that is no text."""
    nul = content.find(b"\0")
    if nul >= 0:
        raise ValueError(f"{path}: binary, not text: NUL at byte {start + nul}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(
            f"{path}: not UTF-8 text: byte {start + error.start} is 0x{byte:02x} ({error.reason}); "
            "convert the file to UTF-8"
        ) from None

"""Tokenizers learned from the training split: bytes, characters, and byte-level BPE."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scaling.data.token_source import Ids, id_type

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HfTokenizer

END_ID = 0  # id that ends a document in every learned tokenizer
UNKNOWN_ID = 1
END_TOKEN = "<|endoftext|>"
BPE_TRAINING_BYTES = 1 << 28  # in hash order, so the first documents are a fair sample of a larger text


class Tokenizer(Protocol):
    """A tokenizer: text to ids below `vocab_size`, and back."""

    vocab_size: int
    end_id: int  # id that ends a document
    unknown_id: int | None  # id of text that the vocabulary lacks; None when it lacks nothing

    def save(self, path: Path) -> None: ...

    def encode(self, text: str) -> Ids:
        """Ids of the text without an end marker, shape (tokens,)."""

    def encode_documents(self, documents: Sequence[str]) -> Ids:
        """Ids of all documents joined, each followed by `end_id`, shape (tokens,)."""

    def decode(self, ids: Ids) -> str:
        """The text of the ids; end markers are left out."""


class LearnedTokenizer(Tokenizer, Protocol):
    """A tokenizer that is learned from training documents."""

    @classmethod
    def check(cls, vocab_size: int) -> None:
        """Raise ValueError when no tokenizer of this kind can have `vocab_size` ids."""

    @classmethod
    def learn(cls, documents: Iterable[str], vocab_size: int, /) -> Self:
        """The tokenizer learned from `documents`, whose order does not matter."""

    @classmethod
    def load(cls, path: Path, vocab_size: int, /) -> Self:
        """The tokenizer that `save` wrote."""


class Bytes:
    """Bytes of UTF-8 as ids; byte 0, which no text holds, ends a document."""

    vocab_size: int = 256
    end_id: int = END_ID
    unknown_id: int | None = None

    @classmethod
    def check(cls, vocab_size: int) -> None:
        if vocab_size != cls.vocab_size:
            raise ValueError(f"tokenizer bytes has 256 ids, got vocab_size={vocab_size}; set data.vocab_size=256")

    @classmethod
    def learn(cls, _documents: Iterable[str], _vocab_size: int) -> Self:
        return cls()

    @classmethod
    def load(cls, _path: Path, _vocab_size: int) -> Self:
        return cls()

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "bytes"}))

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)

    def encode_documents(self, documents: Sequence[str]) -> Ids:
        return self.encode("".join(f"{text}\0" for text in documents))

    def decode(self, ids: Ids) -> str:
        text: str = ids[ids != END_ID].astype(np.uint8).tobytes().decode(errors="replace")
        return text


class Chars:
    """Characters as ids: the most frequent of the training split; id 1 is every other character."""

    end_id: int = END_ID
    unknown_id: int | None = UNKNOWN_ID

    def __init__(self, characters: str, vocab_size: int) -> None:
        self.characters = characters
        self.vocab_size = vocab_size
        self._id_of = np.full(0x110000, UNKNOWN_ID, dtype=id_type(vocab_size))
        self._id_of[_codes(characters)] = np.arange(2, 2 + len(characters))
        self._id_of[0] = END_ID

    @classmethod
    def check(cls, vocab_size: int) -> None:
        if vocab_size < 3:
            raise ValueError(
                f"tokenizer chars needs vocab_size of at least 3 (end of document, unknown, one character), "
                f"got {vocab_size}"
            )

    @classmethod
    def learn(cls, documents: Iterable[str], vocab_size: int) -> Self:
        counts = np.zeros(0x110000, dtype=np.int64)
        for chunk in in_chunks(documents):
            codes, occurrences = np.unique(_codes("".join(chunk)), return_counts=True)
            counts[codes] += occurrences
        by_count = np.argsort(-counts, kind="stable")[: vocab_size - 2]
        return cls("".join(chr(code) for code in by_count if counts[code]), vocab_size)

    @classmethod
    def load(cls, path: Path, vocab_size: int) -> Self:
        return cls(json.loads(path.read_text())["characters"], vocab_size)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "chars", "characters": self.characters}))

    def encode(self, text: str) -> Ids:
        ids: Ids = self._id_of[_codes(text)]
        return ids

    def encode_documents(self, documents: Sequence[str]) -> Ids:
        return self.encode("".join(f"{text}\0" for text in documents))

    def decode(self, ids: Ids) -> str:
        table = ["", "\N{REPLACEMENT CHARACTER}", *self.characters]
        return "".join(table[i] if i < len(table) else table[UNKNOWN_ID] for i in ids.tolist())


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library, without its own markers, truncation and padding."""

    unknown_id: int | None = None

    def __init__(self, model: "HfTokenizer", vocab_size: int, end_id: int) -> None:
        self.model = model
        self.model.encode_special_tokens = True  # the letters of a marker within a text are ordinary text
        self.model.no_truncation()
        self.model.no_padding()
        self.vocab_size = vocab_size
        self.end_id = end_id

    def save(self, path: Path) -> None:
        self.model.save(str(path))

    def encode(self, text: str) -> Ids:
        return np.array(self.model.encode(text, add_special_tokens=False).ids, dtype=id_type(self.vocab_size))

    def encode_documents(self, documents: Sequence[str]) -> Ids:
        ids: list[int] = []
        for encoding in self.model.encode_batch_fast(list(documents), add_special_tokens=False):
            ids.extend(encoding.ids)
            ids.append(self.end_id)
        return np.array(ids, dtype=id_type(self.vocab_size))

    def decode(self, ids: Ids) -> str:
        text: str = self.model.decode(ids[ids != self.end_id].tolist(), skip_special_tokens=True)
        return text


class Bpe(LibraryTokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019)."""

    @classmethod
    def check(cls, vocab_size: int) -> None:
        if vocab_size < 257:
            raise ValueError(f"tokenizer bpe needs vocab_size of at least 257 (end, 256 bytes), got {vocab_size}")

    @classmethod
    def learn(cls, documents: Iterable[str], vocab_size: int) -> Self:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[END_TOKEN],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        model.train_from_iterator(_first_bytes(documents, BPE_TRAINING_BYTES), trainer)
        return cls(model, vocab_size, END_ID)

    @classmethod
    def load(cls, path: Path, vocab_size: int) -> Self:
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)), vocab_size, END_ID)


TOKENIZERS: dict[str, type[LearnedTokenizer]] = {"bytes": Bytes, "chars": Chars, "bpe": Bpe}


def _codes(text: str) -> NDArray[Any]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def in_chunks(documents: Iterable[str], characters: int = 1 << 22) -> Iterator[list[str]]:
    """Lists of documents, each list of about `characters` characters in all."""
    chunk: list[str] = []
    held = 0
    for text in documents:
        chunk.append(text)
        held += len(text)
        if held >= characters:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _first_bytes(documents: Iterable[str], limit: int) -> Iterator[str]:
    for text in documents:
        if limit <= 0:
            return
        limit -= len(text.encode())
        yield text

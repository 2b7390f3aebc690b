"""Pretrained tokenizers: a tokenizer.json, or a folder or name that AutoTokenizer of `transformers` loads."""

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.data.files import local_path
from scaling.data.tokenizers import LibraryTokenizer
from scaling.extras import extra, root_cause

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HfTokenizer

PRETRAINED = "hf"
# End of text in GPT-2 and Pythia; Llama 3; Llama 2, T5 and Marian; Gemma.
END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


class PretrainedTokenizer(LibraryTokenizer):
    """A tokenizer.json, kept byte for byte; its content and the id that ends a document decide the tokens."""

    def __init__(self, content: bytes, vocab_size: int, end_id: int) -> None:
        super().__init__(_parse(content), vocab_size, end_id)
        self.content = content
        settings = json.loads(content)["model"]
        unknown = settings.get("unk_token")  # a token's text; a Unigram model has `unk_id` instead
        self.unknown_id = settings.get("unk_id") if unknown is None else self.model.token_to_id(unknown)

    @classmethod
    def load(cls, path: Path, vocab_size: int, end_id: int) -> "PretrainedTokenizer":
        """The tokenizer that `save` wrote."""
        return cls(path.read_bytes(), vocab_size, end_id)

    def save(self, path: Path) -> None:
        path.write_bytes(self.content)

    @property
    def special(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return special_tokens(self.model)

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


def configured_pretrained(
    tokenizer: str, path: str | None, end_token: str | None, vocab_size: int
) -> PretrainedTokenizer | None:
    """The configured pretrained tokenizer, or None when data.tokenizer names another kind.

    Raises ValueError for settings that contradict each other, and as find_pretrained does.
    """
    if tokenizer != PRETRAINED:
        for name, value in (("tokenizer_path", path), ("end_token", end_token)):
            if value is not None:
                raise ValueError(
                    f"data.{name}={value!r} is of a pretrained tokenizer, but data.tokenizer={tokenizer}; "
                    f"set data.tokenizer={PRETRAINED}, or data.{name}=null"
                )
        return None
    if path is None:
        raise ValueError(
            f"data.tokenizer={PRETRAINED} is a pretrained tokenizer: set data.tokenizer_path to a tokenizer.json, "
            "to a folder that holds one, or to a name on the Hugging Face Hub"
        )
    return find_pretrained(path, end_token, vocab_size)


def find_pretrained(name: str, end_token: str | None, vocab_size: int) -> PretrainedTokenizer:
    """The tokenizer at the path `name`, or with that name on the Hugging Face Hub.

    A file is read as it is; AutoTokenizer loads a folder or a name and gives its tokenizer.json. A document ends with
    `end_token`, or else with the tokenizer's own end of text. Raises ValueError when no end of text is known, when
    nothing can be read, and when an id reaches `vocab_size`.
    """
    local = local_path(name)
    if local is not None and local.is_file():
        content, own_end = local.read_bytes(), None
    else:
        content, own_end = _from_transformers(name)
    try:
        model = _parse(content)
    except ValueError as error:
        raise ValueError(f"{name} is no tokenizer.json of the tokenizers library: {error}") from None
    ids = model.get_vocab(with_added_tokens=True)
    largest = max(ids.values(), default=0)
    if largest >= vocab_size:
        raise ValueError(
            f"tokenizer {name} has ids up to {largest}, outside vocab_size={vocab_size}; "
            f"set data.vocab_size={largest + 1} or more"
        )
    special = list(special_tokens(model))
    end = end_token or own_end or _usual_end(special, name)
    if end not in ids:
        raise ValueError(f"data.end_token={end!r} is no token of {name}; its special tokens are {_listed(special)}")
    return PretrainedTokenizer(content, vocab_size, ids[end])


def special_tokens(model: "HfTokenizer") -> dict[str, int]:
    """Special tokens of a tokenizer and their ids."""
    return {token.content: i for i, token in model.get_added_tokens_decoder().items() if token.special}


def _from_transformers(name: str) -> tuple[bytes, str | None]:
    """The content of tokenizer.json, and the end-of-text token or None."""
    transformers = extra("transformers", f"tokenizer {name}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except Exception as error:  # several libraries raise errors of many classes
        raise ValueError(f"AutoTokenizer finds no tokenizer {name}: {root_cause(error)}") from error
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer {name} is a {type(tokenizer).__name__}, which has no tokenizer.json; take a fast tokenizer"
        )
    content: str = tokenizer.backend_tokenizer.to_str()
    return content.encode(), tokenizer.eos_token


def _parse(content: bytes) -> "HfTokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no narrower class
        raise ValueError(root_cause(error)) from None


def _usual_end(special: list[str], name: str) -> str:
    ends = [token for token in END_TOKENS if token in special]
    if len(ends) == 1:
        return ends[0]
    why = f"{' and '.join(ends)} may each end a document" if ends else "none is known to end a document"
    raise ValueError(
        f"tokenizer {name}: of its special tokens {_listed(special)} {why}; name one: data.end_token='...'"
    )


def _listed(tokens: list[str]) -> str:
    return f"({', '.join(tokens[:10])}{', …' if len(tokens) > 10 else ''})"

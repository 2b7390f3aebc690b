"""Translation of a run's tokenizer to the tokenizers library, id for id."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from scaling.data.pretrained import PretrainedTokenizer
from scaling.data.tokenizers import END_ID, END_TOKEN, UNKNOWN_ID, Bpe, Bytes, Chars
from scaling.data.tokenizers import Tokenizer as Ours
from scaling.spec.objective import names_of

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # decoded text of an unknown character


def translate(tokenizer: Ours, added: Mapping[str, int]) -> Tokenizer:
    """The library's tokenizer with the objective's added tokens; ValueError where the library cannot express it."""
    if isinstance(tokenizer, PretrainedTokenizer):
        return _extended(tokenizer, added)
    builders: dict[type, Any] = {Bytes: _bytes, Chars: _chars, Bpe: _bpe}
    if type(tokenizer) not in builders:
        raise ValueError(f"a tokenizer of the kind {type(tokenizer).__name__} is not translated")
    values = json.loads(builders[type(tokenizer)](tokenizer).to_str())
    values["model"]["vocab"] |= added  # put in directly, because the library would number them after its last id
    made = Tokenizer.from_str(json.dumps(values))
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (END_TOKEN, *added)])
    assert all(made.token_to_id(name) == i for name, i in {END_TOKEN: END_ID, **added}.items())
    return made


def _extended(tokenizer: PretrainedTokenizer, added: Mapping[str, int]) -> Tokenizer:
    """A pretrained tokenizer with the added tokens that it lacks, which follow its own; ValueError without room."""
    made = Tokenizer.from_buffer(tokenizer.content)
    known = {name: next((k for k in names_of(name) if made.token_to_id(k) is not None), name) for name in added}
    lacking = [name for name in added if made.token_to_id(known[name]) is None]
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in reversed(lacking)])
    if wrong := [name for name, i in added.items() if made.token_to_id(known[name]) != i]:
        raise ValueError(
            f"its pretrained tokenizer has {made.get_vocab_size()} tokens, which leaves no room to put {wrong[0]} at "
            f"id {added[wrong[0]]}"
        )
    return made


def _bytes(tokenizer: Bytes) -> Tokenizer:
    letters = _byte_letters()
    vocabulary = {END_TOKEN: END_ID, **{letters[i]: i for i in range(1, 256)}}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=END_TOKEN))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _byte_letters() -> dict[int, str]:
    """Letters of the bytes in byte-level vocabularies (Radford et al. 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(256) if i not in plain]
    return {i: chr(i) for i in plain} | {i: chr(256 + n) for n, i in enumerate(others)}


def _chars(tokenizer: Chars) -> Tokenizer:
    if UNKNOWN in tokenizer.characters:
        raise ValueError(f"its alphabet holds {UNKNOWN!r}, which also stands for characters outside it")
    characters = {character: i for i, character in enumerate(tokenizer.characters, 2)}
    made = Tokenizer(models.WordLevel(vocab={END_TOKEN: END_ID, UNKNOWN: UNKNOWN_ID} | characters, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return made


def _bpe(tokenizer: Bpe) -> Tokenizer:
    return tokenizer.model

"""The text behind token ids, as objectives need it: where words and sentences begin."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scaling.data.token_source import Ids
from scaling.data.tokenizers import Tokenizer

# B sequences, T tokens, V vocabulary

STOPS = ".!?"
FRAGMENT = "\N{REPLACEMENT CHARACTER}"  # the decoded text of a part of a character, which is mostly a letter
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class TokenText:
    """Flags of every id's text, shape (V,) each."""

    begins_in_word: Flags  # the first character is a letter, a digit, "_" or a part of a character
    ends_in_word: Flags
    begins_blank: Flags
    ends_with_stop: Flags
    ends_line: Flags  # the text holds a line's end, or the id ends a document

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """The flags of a tokenizer's whole vocabulary."""
        alone = [tokenizer.decode(np.array([i])) for i in range(tokenizer.vocab_size)]
        # Every id is decoded behind a letter: alone it may lose its blank (Metaspace) or keep its mark (WordPiece).
        letter = next((i for i, text in enumerate(alone) if text.isascii() and text.isalnum()), None)
        texts = alone
        if letter is not None:
            behind = (tokenizer.decode(np.array([letter, i])) for i in range(tokenizer.vocab_size))
            texts = [text.removeprefix(alone[letter]) for text in behind]

        def flags(values: list[bool]) -> Flags:
            return np.array(values, dtype=bool)

        return cls(
            begins_in_word=flags([_in_word(text[:1]) for text in texts]),
            ends_in_word=flags([_in_word(text[-1:]) for text in texts]),
            begins_blank=flags([text[:1].isspace() for text in texts]),
            ends_with_stop=flags([text[-1:] != "" and text[-1] in STOPS for text in texts]),
            ends_line=flags([i == tokenizer.end_id or "\n" in text for i, text in enumerate(texts)]),
        )

    def word_starts(self, tokens_BT: Ids) -> Flags:
        """Word beginnings, shape (B, T); a token outside words begins one by itself, and so does the first token."""
        goes_on_BT = self.begins_in_word[tokens_BT[:, 1:]] & self.ends_in_word[tokens_BT[:, :-1]]
        return np.pad(~goes_on_BT, ((0, 0), (1, 0)), constant_values=True)

    def sentence_starts(self, tokens_BT: Ids) -> Flags:
        """Sentence beginnings, shape (B, T): after a line's end, or between a stop and a blank within a line.

        The first token begins no sentence, because the text before it is unknown.
        """
        before_BT, at_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
        after_stop_BT = self.ends_with_stop[before_BT] & self.begins_blank[at_BT] & ~self.ends_line[at_BT]
        starts_BT = self.ends_line[before_BT] | after_stop_BT
        return np.pad(starts_BT, ((0, 0), (1, 0)), constant_values=False)

    def has_word(self, tokens_T: Ids) -> bool:
        """Whether any of the tokens touches a word."""
        return bool(np.any(self.begins_in_word[tokens_T] | self.ends_in_word[tokens_T]))


def _in_word(character: str) -> bool:
    return character.isalnum() or character in (FRAGMENT, "_")

"""What ids look like as text, as far as objectives ask: where words and sentences begin."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scaling.data.token_source import Ids
from scaling.data.tokenizers import Tokenizer

# B sequences, T tokens, V vocabulary

STOPS = ".!?"
FRAGMENT = "\N{REPLACEMENT CHARACTER}"  # what a part of a character decodes to; mostly of a letter
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class TokenText:
    """Facts about each id's text, each of shape (V,)."""

    begins_in_word: Flags  # its first character is a letter or a digit
    ends_in_word: Flags
    begins_blank: Flags
    ends_with_stop: Flags
    ends_line: Flags  # holds a line's end, or ends the document

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """The facts of a tokenizer's whole vocabulary."""
        alone = [tokenizer.decode(np.array([i])) for i in range(tokenizer.vocab_size)]
        # Behind a letter, since a text's first token may lose its blank (Metaspace), and others their mark (WordPiece).
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
        """Where a word begins, shape (B, T); what is no part of a word stands alone, and so does the first token."""
        goes_on_BT = self.begins_in_word[tokens_BT[:, 1:]] & self.ends_in_word[tokens_BT[:, :-1]]
        return np.pad(~goes_on_BT, ((0, 0), (1, 0)), constant_values=True)

    def sentence_starts(self, tokens_BT: Ids) -> Flags:
        """Where a sentence begins, shape (B, T): after a line's end, or between a stop and a blank within a line.

        Never at the first token, before which nothing is known.
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

"""Tokenizers: nothing lost, nothing invented, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.tokenizers import END_ID, TOKENIZERS, UNKNOWN_ID, Bpe, Bytes, Chars

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
CORPUS = [f"def function_{index}(value):\n    return value + {index}  # größer ✓\n" for index in range(200)]
SIZES = {"bytes": 256, "chars": 60, "bpe": 400}
BPE = Bpe.learn(CORPUS, 400)


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request):
    return TOKENIZERS[request.param].learn(CORPUS, SIZES[request.param])


@given(texts)
def test_bytes_and_bpe_give_back_any_text(text):
    for tokenizer in (Bytes(), BPE):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        joined = tokenizer.encode_documents([text, "x", text])
        assert (joined == END_ID).sum() == 3
        assert tokenizer.decode(joined) == text + "x" + text


@pytest.mark.parametrize("text", ["<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> <|endoftext|>"])
def test_the_name_of_the_end_marker_is_text_like_any_other(text, tmp_path):
    BPE.save(tmp_path / "tokenizer.json")
    for tokenizer in (BPE, Bpe.load(tmp_path / "tokenizer.json", 400)):
        assert END_ID not in tokenizer.encode(text)
        assert END_ID not in tokenizer.encode_documents([text])[:-1]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = type(tokenizer).load(tmp_path / "tokenizer.json", tokenizer.vocab_size)
    ids = tokenizer.encode_documents(CORPUS)
    np.testing.assert_array_equal(again.encode_documents(CORPUS), ids)
    assert again.decode(ids) == tokenizer.decode(ids) == "".join(CORPUS)


def test_documents_are_joined_with_an_end_after_each(tokenizer):
    parts = [[*tokenizer.encode(text), END_ID] for text in CORPUS[:3]]
    np.testing.assert_array_equal(tokenizer.encode_documents(CORPUS[:3]), np.concatenate(parts))
    assert tokenizer.encode_documents(CORPUS).max() < tokenizer.vocab_size


def test_the_order_of_documents_does_not_change_what_is_learned(tokenizer):
    again = type(tokenizer).learn(CORPUS[::-1], tokenizer.vocab_size)
    np.testing.assert_array_equal(again.encode_documents(CORPUS), tokenizer.encode_documents(CORPUS))


def test_chars_keep_the_most_frequent_and_mark_the_others_unknown():
    tokenizer = Chars.learn(["aaabbc", "bad"], 5)
    assert tokenizer.characters == "abc"
    assert tokenizer.encode("abcdé").tolist() == [2, 3, 4, UNKNOWN_ID, UNKNOWN_ID]
    assert tokenizer.decode(np.array([2, END_ID, UNKNOWN_ID, 4])) == "a\N{REPLACEMENT CHARACTER}c"


def test_chars_with_room_to_spare_leave_ids_unused():
    tokenizer = Chars.learn(["ab"], 10)
    assert tokenizer.encode("ab").tolist() == [2, 3]
    assert tokenizer.vocab_size == 10


def test_ids_above_sixteen_bits_get_a_wider_type():
    assert Chars.learn(["ab"], 65_536).encode("a").dtype == np.uint16
    assert Chars.learn(["ab"], 65_537).encode("a").dtype == np.uint32


def test_bpe_starts_with_the_end_marker_and_every_byte():
    vocabulary = BPE.model.get_vocab()
    assert vocabulary["<|endoftext|>"] == END_ID
    assert len(vocabulary) <= 400
    assert sorted(vocabulary.values())[:257] == list(range(257))
    smallest = Bpe.learn(CORPUS, 257)
    assert smallest.decode(smallest.encode("größer ✓")) == "größer ✓"
    assert len(smallest.encode("größer ✓")) == len("größer ✓".encode())


@pytest.mark.parametrize(
    ("name", "vocab_size", "message"),
    [
        ("bytes", 128, "bytes has 256 ids, got vocab_size=128"),
        ("chars", 2, "chars needs vocab_size of at least 3"),
        ("bpe", 256, "bpe needs vocab_size of at least 257"),
    ],
)
def test_a_vocabulary_too_small_is_refused(name, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        TOKENIZERS[name].check(vocab_size)

"""Pretrained tokenizers: their ids as they are, known by content, one end after each document."""

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.synthetic import Synthetic
from scaling.data.text_files import Text

DOCUMENTS = [f"def function_{index}(value):\n    return value + {index}  # größer ✓\n" for index in range(100)]
NEEDS_HF = "needs transformers: pip install 'scaling-experiments[hf]'"


def model(special=("<pad>", "</s>")) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(DOCUMENTS, trainer)
    return made


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return model()


@pytest.fixture
def file(trained, tmp_path) -> Path:
    """A tokenizer.json that ends, cuts and pads whatever it is given."""
    made = Tokenizer.from_str(trained.to_str())
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.enable_truncation(4)
    made.enable_padding(length=100, pad_token="<pad>")
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def config(folder, path, vocab_size=400, end_token=None) -> DataConfig:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    source = Text((str(folder / "a.jsonl"),), "text")
    return DataConfig(source, "hf", vocab_size, 0.3, tokenizer_path=str(path), end_token=end_token)


def prepared(folder, path, **changes):
    settings = config(folder, path, **changes)
    return prepare(settings, identify(settings), folder / "cache", progress=False)


ORDERED = sorted(DOCUMENTS, key=lambda text: sha256(text.encode()).digest())


def expected(trained: Tokenizer, end_id: int) -> list[int]:
    """The ids of validation and training, by the library alone."""
    return [i for text in ORDERED for i in [*trained.encode(text).ids, end_id]]


def test_ids_are_those_of_the_library_with_one_end_after_each_document(trained, file, tmp_path):
    data = prepared(tmp_path, file)
    assert [*data.val, *data.train] == expected(trained, 1)
    assert data.manifest.end_id == 1
    assert data.manifest.unknown_val_tokens == 0


def test_the_tokenizer_comes_back_from_the_cache_as_it_was(file, tmp_path):
    data = prepared(tmp_path, file)
    content = file.read_bytes()
    file.unlink()
    assert (data.folder / "tokenizer.json").read_bytes() == content
    again, ids = data.tokenizer(), np.concatenate([data.val, data.train])
    assert again.end_id == 1
    np.testing.assert_array_equal(again.encode_documents(ORDERED), ids)
    assert again.decode(ids) == "".join(ORDERED)


def test_it_is_known_by_content_and_not_by_path(file, tmp_path):
    spec = identify(config(tmp_path, file))
    assert spec.tokenizer_sha256 == sha256(file.read_bytes()).hexdigest()
    assert spec.end_id == 1
    assert prepared(tmp_path, file).manifest.tokenizer_sha256 == spec.tokenizer_sha256
    shutil.copy(file, tmp_path / "other.json")
    assert identify(config(tmp_path, tmp_path / "other.json")) == spec
    file.write_text(file.read_text().replace("</s>", "<eos>"))
    assert identify(config(tmp_path, file)).tokenizer_sha256 != spec.tokenizer_sha256


def test_a_tokenizer_that_changed_after_planning_is_refused(file, tmp_path):
    settings = config(tmp_path, file)
    spec = identify(settings)
    file.write_text(file.read_text().replace("</s>", "<eos>"))
    with pytest.raises(ValueError, match="the data is not what was planned"):
        prepare(settings, spec, tmp_path / "cache", progress=False)


def test_the_letters_of_a_marker_within_a_text_are_only_letters(file, tmp_path):
    tokenizer = prepared(tmp_path, file).tokenizer()
    assert 1 not in tokenizer.encode("a</s>b")
    assert tokenizer.decode(tokenizer.encode("a</s>b")) == "a</s>b"


def test_a_vocabulary_too_small_is_refused_with_the_size_that_fits(trained, file, tmp_path):
    largest = max(trained.get_vocab().values())
    message = rf"has ids up to {largest}, outside vocab_size={largest}; set data.vocab_size={largest + 1} or more"
    with pytest.raises(ValueError, match=message):
        identify(config(tmp_path, file, vocab_size=largest))
    for vocab_size in (largest + 1, 70_000):
        assert identify(config(tmp_path, file, vocab_size=vocab_size)).vocab_size == vocab_size
    wide = prepared(tmp_path, file, vocab_size=70_000)
    assert wide.train.dtype == np.uint32
    assert wide.train.tolist() == prepared(tmp_path, file).train.tolist()


def test_a_named_end_is_used_and_enters_the_identity(trained, file, tmp_path):
    data = prepared(tmp_path, file, end_token="<pad>")
    assert [*data.val, *data.train] == expected(trained, 0)
    assert identify(config(tmp_path, file, end_token="<pad>")) != identify(config(tmp_path, file))
    assert identify(config(tmp_path, file, end_token="</s>")) == identify(config(tmp_path, file))


def test_any_token_can_be_the_end_and_is_left_out_of_the_text(file, tmp_path):
    tokenizer = prepared(tmp_path, file, end_token="~").tokenizer()
    ids = tokenizer.encode_documents(["one", "two"])
    assert (ids == tokenizer.end_id).sum() == 2
    assert tokenizer.decode(ids) == "onetwo"


def test_an_end_of_text_that_is_not_special_is_not_trusted(tmp_path):
    """Its letters within a text would end the document."""
    made = model(("<pad>",))
    made.add_tokens([AddedToken("</s>", special=False)])
    made.save(str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match=r"\(<pad>\) none is known to end a document"):
        identify(config(tmp_path, tmp_path / "t.json", vocab_size=500))


@pytest.mark.parametrize(
    ("special", "end_token", "message"),
    [
        (("[PAD]", "[SEP]"), None, r"special tokens \(\[PAD\], \[SEP\]\) none is known to end .*: data.end_token="),
        (("</s>", "<eos>"), None, r"</s> and <eos> may each end a document; name one: data.end_token="),
        (("</s>",), "<stop>", r"data.end_token='<stop>' is no token of .*; its special tokens are \(</s>\)"),
        (tuple(f"<{i}>" for i in range(11)), None, r"\(<0>, .*<9>, …\) none is known"),
    ],
)  # fmt: skip
def test_an_end_that_is_missing_or_doubtful_is_asked_for(special, end_token, message, tmp_path):
    model(special).save(str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match=message):
        identify(config(tmp_path, tmp_path / "t.json", vocab_size=500, end_token=end_token))


def test_what_the_vocabulary_lacks_is_counted(tmp_path):
    known = Tokenizer(models.WordLevel({"def": 0, "[UNK]": 1, "</s>": 2}, unk_token="[UNK]"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    known.add_special_tokens([AddedToken("</s>", special=True)])
    known.save(str(tmp_path / "t.json"))
    data = prepared(tmp_path, tmp_path / "t.json", vocab_size=3)
    assert data.manifest.unknown_val_tokens == int((data.val == 1).sum()) > 0
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("e", -1.0)], unk_id=0, byte_fallback=False))
    unigram.add_special_tokens([AddedToken("</s>", special=True)])
    unigram.save(str(tmp_path / "u.json"))
    data = prepared(tmp_path, tmp_path / "u.json", vocab_size=3)
    assert data.manifest.unknown_val_tokens == int((data.val == 0).sum()) > 0


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "t.json").write_text('{"version": "1.0"}')
    with pytest.raises(ValueError, match=r"t.json is no tokenizer.json of the tokenizers library: "):
        identify(config(tmp_path, tmp_path / "t.json"))
    with pytest.raises(ValueError, match=r"u.json does not exist; .* holds .*t.json"):
        identify(config(tmp_path, tmp_path / "u.json"))


@pytest.mark.parametrize(
    ("tokenizer", "settings", "message"),
    [
        ("hf", {}, r"data.tokenizer=hf is a pretrained tokenizer: set data.tokenizer_path to"),
        ("bpe", {"tokenizer_path": "x"}, r"data.tokenizer_path='x' is of a pretrained .*, but data.tokenizer=bpe"),
        ("bytes", {"end_token": "x"}, r"data.end_token='x' is of .*; set data.tokenizer=hf, or data.end_token=null"),
        ("hff", {}, r"unknown tokenizer 'hff': did you mean 'hf'\? choose from bpe, bytes, chars, hf"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_each_other_are_refused(tokenizer, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        identify(DataConfig(Text((str(tmp_path),), "text"), tokenizer, 256, 0.1, **settings))


def test_tokens_have_no_use_for_a_pretrained_tokenizer(file):
    source = Synthetic(tokens=1000, order=1, zipf_exponent=1.0, concentration=1.0, seed=0)
    with pytest.raises(ValueError, match=r"tokenizer 'hf' has nothing to do; set data.tokenizer=none"):
        identify(DataConfig(source, "hf", 400, 0.5, tokenizer_path=str(file)))
    with pytest.raises(ValueError, match=r"data.tokenizer_path='x' is of a pretrained tokenizer"):
        identify(DataConfig(source, "none", 400, 0.5, tokenizer_path="x"))


def test_a_folder_without_the_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ValueError, match=r"tokenizer .* needs transformers \(.*\); pip install 'scaling-experiments\[hf\]'"
    ):
        identify(config(tmp_path, tmp_path))


@pytest.fixture
def transformers(monkeypatch):
    library = pytest.importorskip("transformers", reason=NEEDS_HF)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return library


def test_a_folder_is_read_as_AutoTokenizer_reads_it(transformers, trained, file, tmp_path):
    folder = tmp_path / "folder"
    read = Tokenizer.from_file(str(file))
    transformers.PreTrainedTokenizerFast(tokenizer_object=read, eos_token="<pad>").save_pretrained(folder)
    data = prepared(tmp_path, folder)
    assert [*data.val, *data.train] == expected(trained, 0)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    assert (
        data.tokenizer().encode(DOCUMENTS[3]).tolist()
        == auto(DOCUMENTS[3], add_special_tokens=False, truncation=False, padding=False)["input_ids"]
    )
    spec = identify(config(tmp_path, folder))
    assert spec == identify(config(tmp_path, folder))
    assert spec.tokenizer_sha256 == data.manifest.tokenizer_sha256
    assert identify(config(tmp_path, folder, end_token="</s>")).end_id == 1
    shutil.move(folder, tmp_path / "moved")
    assert identify(config(tmp_path, tmp_path / "moved")) == spec


def test_a_folder_without_an_end_of_text_asks_for_one(transformers, tmp_path):
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=model(("[PAD]", "[SEP]")), sep_token="[SEP]")
    fast.save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"none is known to end a document; name one: data.end_token="):
        identify(config(tmp_path, tmp_path / "folder"))
    assert identify(config(tmp_path, tmp_path / "folder", end_token="[SEP]")).end_id == 1


def test_a_tokenizer_written_in_python_is_refused(transformers, tmp_path):
    transformers.ByT5Tokenizer().save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"is a ByT5Tokenizer, which has no tokenizer.json; take a fast tokenizer"):
        identify(config(tmp_path, tmp_path / "folder"))


@pytest.mark.usefixtures("transformers")
def test_a_name_that_nothing_has_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("no-one/nothing-here", tmp_path / "empty"):
        with pytest.raises(ValueError, match=rf"AutoTokenizer finds no tokenizer {name}: ") as caught:
            identify(config(tmp_path, name))
        assert "\n" not in str(caught.value)

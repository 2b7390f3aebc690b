"""Checkpoints with vocabularies as BERT's and T5's are published: masks and sentinels at ids of their own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from scaling.config.config import compose, to_run
from scaling.data.cache import TokenData
from scaling.data.prepare import prepare
from scaling.data.pretrained import PretrainedTokenizer
from scaling.data.token_text import TokenText
from scaling.hf.export import export
from scaling.hf.importing import import_checkpoint
from scaling.objectives.batch import Batch
from scaling.objectives.losses import mean_loss
from scaling.objectives.objectives import added_ids
from scaling.plan.run import Run
from scaling.records.life import Reporter
from scaling.records.record import RunRecord, read_records
from scaling.spec.objective import SpecialIds
from scaling.spec.run_spec import RunSpec, from_dict, to_dict
from scaling.train.run import train_run
from scaling.train.validation import validation_batches
from tests.hf_examples import transformers
from tests.small_runs import TEXTS

WORDS = ("cat", "sat", "the", "mat", "dog", "town")
LETTERS = "abcdefghijklmnopqrstuvwxyz.,'0123456789"
SENTINELS = 12
SMALL = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "model.context=24", "val_tokens=400"]
QUIET = ["runtime.progress=false", "runtime.device=cpu", "runtime.threads=1"]


def bert_tokenizer() -> Tokenizer:
    """The layout of bert-base-uncased: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103, words after."""
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([AddedToken(f"[{name}]", special=True) for name in ("PAD", "UNK", "CLS", "SEP", "MASK")])
    return made


def t5_tokenizer() -> Tokenizer:
    """The layout of T5: <pad> 0, </s> 1, <unk> 2, pieces, and the sentinels last, <extra_id_0> on top."""
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]
    pieces = ["▁", *LETTERS, *WORDS, *(f"▁{word}" for word in WORDS)]
    scores = [(piece, -float(len(LETTERS) - len(piece))) for piece in pieces]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scores, *((name, 0.0) for name in sentinels)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<pad>", "</s>", "<unk>", *sentinels)])
    return made


TOKENIZERS = {"bert": bert_tokenizer, "t5": t5_tokenizer}
SIZES = {name: made().get_vocab_size() for name, made in TOKENIZERS.items()}
ROWS = {"bert": SIZES["bert"], "t5": SIZES["t5"] + 28}  # T5's model has more rows than its tokenizer has tokens
END = {"bert": "[SEP]", "t5": "</s>"}


def checkpoint(name: str, folder: Path) -> Any:
    """A small model of random weights beside its tokenizer, as published; and the model."""
    common = {"vocab_size": ROWS[name], "pad_token_id": 0}
    if name == "bert":
        sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 40, "num_attention_heads": 2}
        model = transformers.BertForMaskedLM(
            transformers.BertConfig(**common, **sizes, max_position_embeddings=24, initializer_range=0.5)
        )
    else:
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(**common, num_layers=1, d_model=16, d_kv=8, num_heads=2, d_ff=40, eos_token_id=1)
        )
    model.eval().save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[name]()).save_pretrained(folder)
    return model


def text_data(name: str, folder: Path, tokenizer: Path) -> list[str]:
    for i, text in enumerate(TEXTS * 4):
        (folder / f"{i}.txt").write_text(text * (10 + i))
    return [
        "data=text",
        f"data.source.paths=[{folder}/*.txt]",
        "data.val_fraction=0.3",
        "data.tokenizer=hf",
        f"data.tokenizer_path={tokenizer}",
        f"data.end_token={json.dumps(END[name])}",
        f"data.vocab_size={SIZES[name]}",
        *QUIET,
    ]


def imported(name: str, source: Path, settings: list[str]) -> tuple[RunRecord, RunSpec]:
    lengths = ["val_tokens=400", *(["model.context=24"] if name == "t5" else [])]
    import_checkpoint(str(source), [*settings, *lengths, "study=s", "train_tokens=1e6"])
    (record,) = read_records(Path("runs/s"))
    return record, from_dict(record.spec)


def examples_of(run: Run) -> Iterator[Batch]:
    data: TokenData = prepare(run.data, run.spec.data, run.runtime.cache_dir, progress=False)
    return validation_batches(run.spec, data.val, None, torch.device("cpu"))


@torch.no_grad()
def their_loss(model: Any, spec: RunSpec, val: np.ndarray) -> float:
    """What Hugging Face's own model makes of the run's validation set."""
    total, count = 0.0, 0
    for example in validation_batches(spec, val, None, torch.device("cpu")):
        tokens, others = example.inputs
        everything = torch.ones_like(tokens)
        if spec.model.kind == "encoder":
            logits = model(input_ids=tokens, attention_mask=everything).logits
            logits = logits.gather(1, others.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
        else:
            logits = model(input_ids=tokens, attention_mask=everything, decoder_input_ids=others).logits
        total += float(mean_loss(logits, example.targets_BP, example.weights_BP)) * example.predicted
        count += example.predicted
    return total / count


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("source", ["text", "tokens"])
def test_a_published_vocabulary_is_evaluated_with_its_own_ids(
    name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, tokenizer = checkpoint(name, tmp_path / "m"), TOKENIZERS[name]()
    settings = text_data(name, tmp_path, tmp_path / "m")
    if source == "tokens":
        ids = [i for text in TEXTS for i in tokenizer.encode(text * 60, add_special_tokens=False).ids]
        np.array(ids, dtype=np.uint16).tofile(tmp_path / "ids.bin")
        settings = ["data=tokens", "data.source.train=[ids.bin]", f"data.vocab_size={SIZES[name]}", *QUIET]
    record, spec = imported(name, tmp_path / "m", settings)
    assert spec.model.vocab_size == ROWS[name]
    assert spec.special is not None
    if name == "bert":
        assert spec.special.added == (103,)
    else:
        top = tokenizer.token_to_id("<extra_id_0>")
        assert top == SIZES["t5"] - 1 < ROWS["t5"] - 1
        assert spec.special.added == tuple(top - i for i in range(len(spec.special.added)))
        assert spec.special.end == 1
    run = to_run(compose([f"model={name}", *settings, "model.context=24"]))
    data = prepare(run.data, spec.data, Path("runs/cache"), progress=False)
    example = next(validation_batches(spec, data.val, None, torch.device("cpu")))
    for i in spec.special.added:
        assert (example.inputs[0] == i).any()
    assert name == "bert" or bool((example.targets_BP[:, -1] == 1).all())
    assert record.val_loss_nats == pytest.approx(their_loss(model, spec, data.val), abs=1e-5)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_training_on_a_published_vocabulary_adds_no_token_that_it_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TOKENIZERS[name]().save(str(tmp_path / "tokenizer.json"))
    settings = [*text_data(name, tmp_path, tmp_path / "tokenizer.json"), *SMALL, f"model={name}"]
    run = to_run(compose([*settings, "budget.flops=null", "budget.tokens=200", "study=s"]))
    assert run.spec.model.vocab_size == SIZES[name]
    assert run.spec.special is not None
    assert from_dict(json.loads(json.dumps(to_dict(run.spec)))) == run.spec
    train_run(run, Reporter())
    export(run.directory, tmp_path / "out", run.runtime.cache_dir)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs(TEXTS[0])["input_ids"] == TOKENIZERS[name]().encode(TEXTS[0], add_special_tokens=False).ids
    assert theirs.eos_token_id == theirs.convert_tokens_to_ids(END[name])
    if name == "bert":
        assert theirs.mask_token_id == 103
    else:
        assert transformers.GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 1
    # The export is a published checkpoint like any other.
    import_checkpoint(str(tmp_path / "out"), [*settings, "study=back", "train_tokens=200"])
    (back,) = read_records(Path("runs/back"))
    (first,) = read_records(Path("runs/s"))
    assert back.val_loss_nats == pytest.approx(first.val_loss_nats, abs=1e-6)
    assert back.weights_sha256 == first.weights_sha256


def test_what_a_vocabulary_lacks_is_added_on_top_of_it(tmp_path: Path) -> None:
    made = bert_tokenizer()
    made.save(str(tmp_path / "tokenizer.json"))
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "[CLS]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    settings = text_data("bert", tmp_path, tmp_path / "tokenizer.json")
    run = to_run(compose([*settings, *SMALL, "model=bert", "objective.next_sentence=true"]))
    assert run.spec.model.vocab_size == SIZES["bert"] + 1
    assert added_ids(run.spec) == {"<mask>": 103, "<cls>": SIZES["bert"], "<sep>": 102}
    # [SEP] ends documents as well as sentences: it is never asked for.
    example = next(examples_of(run))
    assert (example.inputs[0][:, 0] == SIZES["bert"]).all()
    assert not (example.targets_BP == 102).any()
    assert example.predicted == len(example.targets_BP) * run.spec.lengths.predicted


def test_a_vocabulary_without_such_tokens_leaves_runs_as_they_were(tmp_path: Path) -> None:
    settings = ["data=text", f"data.source.paths=[{tmp_path}/*.txt]", "data.tokenizer=bytes", "data.vocab_size=256"]
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.txt").write_text(TEXTS[1])
    spec = to_run(compose([*settings, *SMALL, "model=bert"])).spec
    assert spec.special is None
    assert "special" not in to_dict(spec)
    assert added_ids(spec) == {"<mask>": 256}


def test_a_shorter_context_has_the_first_of_the_sentinels(tmp_path: Path) -> None:
    t5_tokenizer().save(str(tmp_path / "tokenizer.json"))
    settings = text_data("t5", tmp_path, tmp_path / "tokenizer.json")
    long, short = (
        to_run(compose([*settings, *SMALL, "model=t5", f"model.context={context}"])).spec for context in (64, 24)
    )
    assert isinstance(long.special, SpecialIds)
    assert isinstance(short.special, SpecialIds)
    assert short.special.added == long.special.added[: len(short.special.added)]
    assert len(short.special.added) < len(long.special.added)


@pytest.mark.parametrize(("name", "words"), [("bert", ["dog", "the", "cats"]), ("t5", ["dog", "the", "cats"])])
def test_words_begin_where_a_published_vocabulary_says(name: str, words: list[str]) -> None:
    tokenizer = PretrainedTokenizer(TOKENIZERS[name]().to_str().encode(), SIZES[name], 1)
    ids = tokenizer.encode("dog the cats.").astype(np.int64)[None]
    starts = TokenText.of(tokenizer).word_starts(ids)[0]
    pieces = [tokenizer.model.id_to_token(int(i)).replace("##", "").replace("▁", "") for i in ids[0]]
    found: list[str] = []
    for piece, begins in zip(pieces, starts, strict=True):
        found = [*found, piece] if begins else [*found[:-1], found[-1] + piece]
    assert [word for word in found if word not in ("", ".")] == words

"""Published checkpoints as runs of the ledger."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaling.analysis.runs.observations import load
from scaling.cli import main
from scaling.hf.export import export
from scaling.hf.importing import import_checkpoint
from scaling.hf.reading import read_published
from scaling.records.attempt import run_state
from scaling.records.record import read_record, read_records
from scaling.shapes.flops import train_flops_per_sequence
from scaling.spec.run_spec import ImportedSpec, from_dict
from scaling.train.checkpoint import final_weights
from tests.hf_examples import CAUSAL, CONFIGS, MODELS, VOCABULARY, theirs
from tests.small_runs import trained

# Data of as many symbols as the small models have tokens.
SYMBOLS = ["data=synthetic", "data.source.tokens=20000", f"data.vocab_size={VOCABULARY}", "val_tokens=512"]
QUIET = ["runtime.progress=false", "runtime.device=cpu"]


def saved(name: str, folder: Path) -> Path:
    theirs(name).save_pretrained(folder)
    return folder


def text_settings(folder: Path) -> list[str]:
    """Overrides that say what `trained` trained on."""
    return [
        "data=text",
        f"data.source.paths=[{folder}/*.txt]",
        "data.tokenizer=bytes",
        "data.vocab_size=256",
        "data.val_fraction=0.3",
        "val_tokens=1024",
        *QUIET,
    ]


OBJECTIVES = {
    "decoder": [],
    "encoder": ["objective.rate=0.2"],
    "encoder_decoder": ["objective.rate=0.2", "objective.mean_span=1.5", "model.context=16"],
}


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_was_exported_comes_back_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shape, objective = MODELS[name]
    record, run_dir = trained(tmp_path, shape, objective)
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    settings = [*text_settings(tmp_path), *OBJECTIVES[shape.kind], "study=back", "train_tokens=12345"]
    import_checkpoint(str(tmp_path / "out"), settings)
    (back,) = read_records(Path("runs/back"))
    assert back.weights_sha256 == record.weights_sha256
    assert back.spec["model"] == record.spec["model"]
    assert back.n_params == record.n_params
    assert back.val_loss_nats == record.val_loss_nats
    assert back.val_tokens == record.val_tokens
    assert back.run_id != record.run_id
    export(Path("runs/back") / back.run_id, tmp_path / "again", tmp_path / "runs" / "cache")
    first, second = (load_file(tmp_path / out / "model.safetensors") for out in ("out", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_imported_run_stands_in_its_study_and_says_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("gpt2", "llama-grouped")):
        folder = saved(name, tmp_path / name)
        assert main(["import", str(folder), "study=s", f"train_tokens={1000 * (1 + seed)}", *SYMBOLS, *QUIET]) == 0
        assert "imported from" in capsys.readouterr().out
    records = read_records(Path("runs/s"))
    assert len(records) == 2
    for record in records:
        spec = from_dict(record.spec)
        assert isinstance(spec, ImportedSpec)
        assert spec.run_id == record.run_id
        assert spec.train_tokens == record.train_tokens
        assert record.train_flops == record.train_tokens * train_flops_per_sequence(spec.model) // spec.model.context
        assert record.imported is not None
        assert set(record.imported["file_sha256"]) == {"model.safetensors"}
        assert run_state(Path("runs/s") / record.run_id).status == "done"
    table = load("runs/s", curves=True).table
    assert sorted(table["tokens"]) == [1000, 2000]
    assert main(["import", str(folder), "study=s", "train_tokens=2000", *SYMBOLS, *QUIET]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(["status", "runs/s"]) == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_is_read_from_its_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    context = ["model.context=12"] if name.startswith(("t5", "marian")) else []
    settings = [*SYMBOLS, *QUIET, *context, "data.vocab_size=20", "train_tokens=5e3"]
    import_checkpoint(str(saved(name, tmp_path / "m")), settings)
    (record,) = read_records(Path("runs/default"))
    assert record.val_loss_nats is not None
    assert sum(record.params_by_group.values()) == record.n_params["total"]


def rename_in_file(folder: Path, renames: dict[str, str], **added: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    for old, new in renames.items():
        weights = {key.replace(old, new): tensor for key, tensor in weights.items()}
    save_file(weights | added, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "renames", "added"),
    [
        ("gpt2", {"transformer.": ""}, {"h.0.attn.bias": torch.ones(1, 1, 12, 12)}),  # as GPT-2 itself is published
        ("bert", {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}, {}),  # as BERT is
        ("bert", {}, {"bert.pooler.dense.weight": torch.ones(24, 24)}),
        (  # as Pythia is
            "neox",
            {"lm_head.": "embed_out."},
            {
                "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 12, 12),
                "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(1),
            },
        ),
    ],
)
def test_older_names_are_understood(
    name: str, renames: dict[str, str], added: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = saved(name, tmp_path / "m")
    rename_in_file(folder, renames, **added)
    published, expected = read_published(str(folder)), theirs(name).state_dict()
    assert all(torch.equal(published.weights[key], tensor) for key, tensor in expected.items())
    assert set(published.unused) <= set(added)


def test_shards_in_half_precision_are_read_in_full_and_a_lost_one_is_named(tmp_path: Path) -> None:
    model = theirs("llama-grouped").half()
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    published = read_published(str(tmp_path))
    assert len(published.file_sha256) > 1
    assert all(torch.equal(published.weights[key], tensor.float()) for key, tensor in model.state_dict().items())
    lost = sorted(tmp_path.glob("*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(ValueError, match=lost.name):
        read_published(str(tmp_path))


def edit_weights(folder: Path, change: str) -> None:
    weights = load_file(folder / "model.safetensors")
    key = "transformer.h.1.mlp.c_fc.weight"
    if change == "missing":
        del weights[key]
    elif change == "mismatched":
        weights[key] = weights[key][:, :-1].contiguous()
    elif change == "damaged":
        weights[key] = weights[key] * torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ("missing", [], "lacks weights of a GPT2LMHeadModel: transformer.h.1.mlp.c_fc.weight"),
        ("mismatched", [], "another shape than its config.json says: .*transformer.h.1.mlp.c_fc.weight"),
        ("damaged", [], "validation loss is nan"),
        ("pickled", [], r"pickled weights \(pytorch_model.bin\).*safetensors; where you trust them: .*save_pretrained"),
        ("empty", [], "holds no safetensors"),
        ("cut", [], "cannot be read as a GPT2LMHeadModel"),
        ("no config", [], "holds no config.json"),
        ("no type", [], "names no model_type"),
        ("other type", [], "unknown Hugging Face model_type 'mamba'"),
        ("", ["data.vocab_size=64"], "vocab_size=29 is smaller than data.vocab_size=64"),
        ("", ["model.d_model=32"], "d_model=32: the checkpoint has 24; leave the setting out"),
        ("", ["model.context=8"], "context=8: the checkpoint has 12"),
        ("", ["objective=masked"], "objective=masked does not go with model.kind=decoder"),
        ("", ["train_tokens=-3"], "train_tokens=-3: must be a positive number"),
        ("tokens unsaid", [], "how many tokens was it trained on"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_leaves_no_trace(
    change: str,
    settings: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved("gpt2", tmp_path / "m")
    weights, config = folder / "model.safetensors", folder / "config.json"
    if change in ("missing", "mismatched", "damaged"):
        edit_weights(folder, change)
    elif change == "pickled":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif change == "empty":
        weights.unlink()
    elif change == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif change == "no config":
        config.unlink()
    elif change in ("no type", "other type"):
        values = json.loads(config.read_text())
        values["model_type"] = "mamba"
        if change == "no type":
            del values["model_type"]
        config.write_text(json.dumps(values))
    stated = [] if change == "tokens unsaid" else ["train_tokens=1e6"]
    with pytest.raises(ValueError, match=message):
        import_checkpoint(str(folder), ["study=s", *stated, *SYMBOLS, *QUIET, *settings])
    assert not Path("runs/s").exists()


def test_another_tokenizer_than_the_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, run_dir = trained(tmp_path, MODELS["GPT2LMHeadModel"][0], CAUSAL)
    export(run_dir, tmp_path / "out", tmp_path / "cache")
    settings = [*text_settings(tmp_path), "train_tokens=100", "study=s", "data.tokenizer=chars"]
    with pytest.raises(ValueError, match="tokenizer=chars gives other ids than the checkpoint's own tokenizer"):
        import_checkpoint(str(tmp_path / "out"), settings)
    assert not Path("runs/s").exists()


def test_a_failure_while_writing_is_written_down_and_the_same_command_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved("gpt2", tmp_path / "m")

    def full(*_: object) -> None:
        raise OSError("no space left")

    settings = ["study=s", "train_tokens=10", *SYMBOLS, *QUIET]
    monkeypatch.setattr("scaling.records.life.publish_record", full)
    with pytest.raises(OSError, match="no space left"):
        import_checkpoint(str(folder), settings)
    (run_dir,) = Path("runs/s").iterdir()
    state = run_state(run_dir)
    assert (state.status, state.why) == ("failed", "OSError: no space left")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    import_checkpoint(str(folder), settings)
    record = read_record(run_dir)
    assert record is not None
    assert record.attempts == 2
    assert final_weights(run_dir, record.weights_sha256)


def test_a_record_from_before_imports_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, run_dir = trained(tmp_path, MODELS["GPT2LMHeadModel"][0], CAUSAL)
    values = json.loads((run_dir / "record.json").read_text())
    del values["imported"]
    (run_dir / "record.json").write_text(json.dumps(values))
    assert read_record(run_dir) == record


def test_an_imported_mistral_is_exported_as_one_and_states_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "m"
    theirs("mistral-grouped", sliding_window=8).save_pretrained(folder)
    assert main(["import", str(folder), "study=s", "train_tokens=1000", *SYMBOLS, *QUIET]) == 0
    assert "sliding_window=8 of max_position_embeddings=12: the context here is 8 tokens" in capsys.readouterr().out
    (record,) = read_records(Path("runs/s"))
    assert record.spec["model"]["context"] == 8
    run = str(Path("runs/s") / record.run_id)
    assert main(["export", run, "--out", "again"]) == 0
    assert "a MistralForCausalLM" in capsys.readouterr().out
    assert json.loads(Path("again/config.json").read_text())["sliding_window"] is None
    assert main(["export", run, "--out", "llama", "--model-type", "llama"]) == 0
    first, second = (load_file(f"{folder}/model.safetensors") for folder in ("m", "llama"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert main(["export", run, "--out", "qwen", "--model-type", "qwen2"]) == 2
    assert "Qwen2ForCausalLM cannot say model.qkv_bias=false" in capsys.readouterr().err


def test_a_revision_is_the_hubs_and_stands_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, str | None]] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(saved("gpt2", tmp_path / "c0ffee"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    given = ["study=s", "train_tokens=1000", *SYMBOLS, *QUIET]
    assert main(["import", "owner/name", "revision=step1000", *given]) == 0
    assert asked == [("owner/name", "step1000")]
    (record,) = read_records(Path("runs/s"))
    assert record.imported is not None
    assert (record.imported["origin"], record.imported["revision"]) == ("owner/name@c0ffee", "step1000")
    capsys.readouterr()
    assert main(["import", "c0ffee", "revision=step1000", *given]) == 2
    assert "revision=step1000: c0ffee is a folder here" in capsys.readouterr().err

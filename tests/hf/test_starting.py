"""Published checkpoints as starts of continued pretraining."""

from pathlib import Path

import pytest

from scaling.cli import main
from scaling.cli.starting import with_starts
from scaling.hf.export import export
from scaling.hf.importing import import_checkpoint
from scaling.plan.parents import read_parent
from scaling.records.record import RunRecord, read_records
from tests.examples import TINY
from tests.hf_examples import CAUSAL, VOCABULARY, theirs
from tests.small_runs import trained

STILL = "recipe.learning_rate.value=1e-30"  # a rate at which float32 weights stay as they are
SYMBOLS = ["data=synthetic", "data.source.tokens=20000", f"data.vocab_size={VOCABULARY}", "val_tokens=512"]
QUIET = ["runtime.progress=false", "runtime.device=cpu", "runtime.log_points=2"]
SHORT = ["budget.flops=null", "budget.tokens=2400", "recipe.batch_tokens={value: 48, params: 0, tokens: 0, flops: 0}"]


def record_of(study: str) -> RunRecord:
    (record,) = read_records(Path("runs") / study)
    return record


@pytest.mark.parametrize("name", ["gpt2", "mistral-grouped", "qwen2-tied-theta"])
def test_a_run_goes_on_from_a_checkpoints_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    theirs(name).save_pretrained(tmp_path / "m")
    assert main(["train", "study=s", "init_from=m", STILL, *SHORT, *SYMBOLS, *QUIET]) == 0
    record = record_of("s")
    import_checkpoint(str(tmp_path / "m"), ["study=i", "train_tokens=1000", *SYMBOLS, *QUIET])
    assert record.val_loss_nats == pytest.approx(record_of("i").val_loss_nats, abs=1e-6)
    assert record.continued is not None
    assert record.continued["weights_sha256"] == record_of("i").weights_sha256
    assert record.continued["origin"] == str(tmp_path / "m")
    unknown = {record.continued[name] for name in ("run_id", "same_tokenizer", "train_tokens", "train_flops")}
    assert unknown == {None}
    # The same checkpoint as an imported run is the same start.
    assert main(["train", "study=s", f"init_from=runs/i/{record_of('i').run_id}", STILL, *SHORT, *SYMBOLS, *QUIET]) == 0
    assert len(read_records(Path("runs/s"))) == 1


def test_ids_must_be_those_of_the_checkpoints_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record, run_dir = trained(tmp_path, TINY, CAUSAL)
    export(run_dir, tmp_path / "m", tmp_path / "cache")
    text = ["data=text", "data.source.paths=[*.txt]", "data.vocab_size=256", "data.val_fraction=0.3", "val_tokens=512"]
    given = ["study=s", "init_from=m", STILL, *SHORT, *text, *QUIET]
    assert main(["plan", *given, "data.tokenizer=bytes"]) == 2
    assert "set data.tokenizer=hf and data.tokenizer_path to the checkpoint" in capsys.readouterr().err
    assert main(["train", *given, "data.tokenizer=hf", "data.tokenizer_path=m"]) == 0
    more = record_of("s")
    assert more.continued is not None
    assert more.continued["same_tokenizer"] is True
    assert more.continued["weights_sha256"] == record.weights_sha256


def test_a_name_on_the_hub_may_have_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[str | None] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(revision)
        theirs("gpt2", seed=len(asked)).save_pretrained(tmp_path / "c0ffee")
        return str(tmp_path / "c0ffee")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    (found,) = with_starts(["init_from=owner/name@step1000,owner/name"])
    assert asked == ["step1000", None]
    one, other = (value.strip("'") for value in found.removeprefix("init_from=").split(","))
    assert one != other
    assert read_parent(one).origin == "owner/name@c0ffee"
    assert with_starts([f"init_from='{one}'"]) == [f"init_from='{one}'"]
    assert asked == ["step1000", None]  # weights in the cache are not fetched again
    assert with_starts(["seed=0"]) == ["seed=0"]

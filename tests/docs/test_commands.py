"""Every command of the documents runs, as it stands there but for the rows of SMALL and of STANDS_FOR.

A new command needs no line here unless it takes long. A command that cannot run here stands in a block below
`<!-- not run: REASON -->`.
"""

import json
import random
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.figures import paper
from scaling.analysis.laws import LAWS
from scaling.cli import main
from scaling.profiling import bench, peak_memory, timing
from scaling.records.record import read_records
from scaling.tune import search
from tests.docs.documents import NAMES, ROOT, blocks, prose
from tests.examples import overridden

SHELL = ("bash", "console")
SHAPES = [f"{{n_layers: 1, d_model: {width}, n_heads: 2}}" for width in (8, 16, 32)]
SHORT = ["recipe.batch_tokens.value=1e-2", "model.context=16", "val_tokens=1024", "runtime.threads=1"]
LIMITS = ["budget.least_steps=1", "budget.tolerance=100"]  # short runs are no measurements, and quick
HERE = ["hydra/launcher=in_process", "runtime.progress=false"]
POINT = ["--bootstrap", "0", "--holdout", "none"]


def grid(sizes: int, *budgets: str) -> list[str]:
    """Settings of a sweep's grid: the smallest of SHAPES, each at every budget."""
    shapes = f"hydra.sweeper.shapes=[{', '.join(SHAPES[:sizes])}]"
    return ["hydra.sweeper.sizes=null", shapes, f"hydra.sweeper.budgets=[{','.join(budgets)}]"]


# Arguments that make a command small, by words of the command; a command with all words of a row gets its arguments.
SMALL: dict[str, list[str]] = {
    "scaling plan": LIMITS,
    "scaling plan +sweep=smoke --write": [*SHORT, *grid(2, "1e8")],
    "scaling train": [*SHORT, *HERE, *LIMITS, "runtime.eval_fractions=[]"],
    "scaling train +sweep=quickstart": [*grid(3, "1e8", "2e8", "4e8"), "hydra.sweeper.axes={seed: [0]}"],
    "scaling train +sweep=objectives": grid(1, "2e8"),
    "scaling train +sweep=optimisers": grid(3, "1e8", "2e8"),
    "scaling train +sweep=hero": grid(1, "8e8"),
    "scaling train +sweep=schedules": [*grid(1, "1e8"), "hydra.sweeper.axes={seed: [0]}"],
    "scaling tune": [*SHORT, *HERE, *LIMITS, *grid(2, "1e8"), "--budgets", "1e8", "--flops", "1.6e9"],
    "scaling bench": ["hydra/launcher=in_process", "--seconds", "0.01"],
    "scaling fit": POINT,
    "scaling next": ["--law", "chinchilla"],
    "scaling report": POINT,
    "scaling finetune": [
        *("hydra/launcher=in_process", "recipe.steps=2", "recipe.epochs=0", "recipe.evaluations=1"),
        *("task.examples=[8]", "task.scratch_examples=[]", "task.stop_examples=8", "task.val_examples=16"),
    ],
    "scaling profile": ["--batches", "1", "--threads", "1"],
    "scaling check-transfer": ["--widths", "1,2", "--depths", "1,2", "--steps", "2", "--seeds", "1"],
    "scaling import": ["val_tokens=1024", "runtime.progress=false"],
}
# Words that stand for others: smaller numbers, and names for what a reader fills in.
STANDS_FOR = {
    "budget.flops=1e11": "budget.flops=1e8",
    "budget.flops=1e11,1e12": "budget.flops=1e8,2e8",
    "budget.flops=1e9": "budget.flops=1e7",
    "3e12": "1e9",
    "CHECKPOINT": "model",
}
SAYS_NO = {"check-transfer": 1}  # exit status of a command that ran, and whose answer is no
NEEDS_HF = {"export", "import"}  # commands of the extra hf, which a plain `make test` does not install
STUDIES = ["scaling train +sweep=quickstart -m", "scaling train +sweep=objectives -m"]


@dataclass(frozen=True)
class Command:
    """A command of a document, and why it is not run, if so."""

    text: str
    line: int
    not_run: str | None

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def commands(document: str) -> list[Command]:
    """The commands in the shell blocks of a document; a line that ends with a backslash goes on in the next."""
    found = []
    for block in blocks(document):
        if block.language in SHELL:
            lines = block.text.replace("\\\n", "").splitlines()
            found += [Command(line.removeprefix("$ "), block.line, block.not_run) for line in lines if line.strip()]
    return found


COMMANDS = {document: commands(document) for document in NAMES}
RUN_HERE = {document: [c for c in found if not c.not_run] for document, found in COMMANDS.items()}


def small(command: str) -> list[str]:
    """The words of a command with the arguments of SMALL and the words of STANDS_FOR."""
    words = shlex.split(command)
    added = [argument for key, row in SMALL.items() if set(key.split()) <= set(words) for argument in row]
    return overridden([filled(STANDS_FOR.get(word, word)) for word in words], added)


def filled(word: str) -> str:
    """A word whose RUN is the first finished run of its study."""
    study, run, _ = word.partition("/RUN")
    return str(min(Path(study).glob("*/record.json")).parent) if run else word


def run(command: str) -> None:
    """Run a command in this process; `make` stands for the commands that its target runs."""
    words = small(command)
    if words[0] == "make":
        asked = ["make", "--no-print-directory", "-n", "-o", ".venv/installed", *words[1:]]
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        assert listed
        for line in listed:
            run(line.removeprefix(".venv/bin/"))
        return
    assert words[0] == "scaling", f"{command}: only scaling and make are run; mark the block as not run"
    assert main(words[1:]) in (0, SAYS_NO.get(words[1], 0)), f"{command}, run as {shlex.join(words)}"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches, measurements and drawings, which have tests of their own, take little time."""
    cases = [bench.Case(1, 16, 2, 16, 2), bench.Case(4, 16, 2, 16, 2), bench.Case(2, 64, 4, 128, 16)]
    monkeypatch.setattr(bench, "CASES", {"cpu": cases, "cuda": cases})
    monkeypatch.setattr(bench, "STACKS", (2,))
    monkeypatch.setitem(search.REACH, search.RATE, 1)
    monkeypatch.setattr(timing, "LEAST_REPEATS", 1)
    monkeypatch.setattr(timing, "ENOUGH_S", 0.0)
    monkeypatch.setattr(peak_memory, "peak_memory", lambda spec, batches, *_: dict.fromkeys(batches, 1))
    monkeypatch.setattr(paper, "LEAST_CHARTS", 10**9)  # all are drawn here, where nothing is drawn
    monkeypatch.setattr(paper, "save", lambda _, stem, *__: [stem.with_suffix(f".{kind}") for kind in paper.CANVASES])


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents' commands read, the trained studies among it."""
    folder = tmp_path_factory.mktemp("documents")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_inputs(folder)
        for command in STUDIES:
            run(command)
        obey_a_law(folder / "runs" / "quickstart")
        run("scaling fit runs/quickstart")
    return folder


def obey_a_law(study: Path) -> None:
    """Give the runs of a study the losses of a law with an optimum among them, which runs of some steps do not have."""
    middle = sorted(record.train_tokens for record in read_records(study))[4]
    for path in study.glob("*/record.json"):
        record = json.loads(path.read_text())
        n_params, tokens = record["n_params"]["non_embedding"], record["train_tokens"]
        record["val_loss_nats"] = 1.2 + (3e3 / n_params) ** 0.4 + (middle / tokens) ** 0.4
        path.write_text(json.dumps(record))


def write_inputs(folder: Path) -> None:
    """Write the texts and tables that commands name, and the files that the documents' YAML blocks show."""
    drawn = random.Random(0)
    words = [f"word{i}" for i in range(200)]
    texts = [" ".join(drawn.choices(words, k=300)) for _ in range(60)]
    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    labelled = [f"{text[:200]},{'good' if i % 2 else 'bad'}" for i, text in enumerate(texts)]
    (folder / "novel.txt").write_text("\n\n".join(texts))
    (folder / "reviews.csv").write_text("\n".join(["text,label", *labelled]))
    law = LAWS["chinchilla"](**LAWS["chinchilla"].example)
    rows = ["params,my_column,tokens,loss"]
    for flops in np.geomspace(1e18, 1e20, 4):
        for params in law.optimum(C=flops).N * np.geomspace(0.2, 5, 5):
            loss = law(N=params, D=flops / (6 * params))
            rows.append(f"{params:.0f},{params:.0f},{flops / (6 * params):.0f},{loss:.5f}")
    (folder / "runs.csv").write_text("\n".join(rows))
    write_layouts(folder, [float(row.split(",")[0]) for row in rows[1:6]])
    for document in NAMES:
        for block in blocks(document):
            if block.language == "yaml":
                path = folder / block.text.splitlines()[1].removeprefix("# ")  # below Hydra's own first line
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)


def write_layouts(folder: Path, sizes: list[float]) -> None:
    """Write tables of other layouts than one row a run with its size, tokens and loss."""
    law, steps = LAWS["chinchilla"](**LAWS["chinchilla"].example), (10_000, 20_000, 40_000, 80_000)
    wide = [[float(law(N=size, D=step * 524_288)) for size in sizes] for step in steps]
    names = [f"run {k}" for k in range(len(sizes))]
    lines = [",".join([str(step), *map(str, row)]) for step, row in zip(steps, wide, strict=True)]
    (folder / "wide.csv").write_text("\n".join([",".join(["step", *names]), *lines]))
    listed = [f"{name},{size:.0f}" for name, size in zip(names, sizes, strict=True)]
    (folder / "sizes.csv").write_text("\n".join(["run,params", *listed]))
    compute = [f"{flops:.4g},{2 + (1e18 / flops) ** 0.2}" for flops in np.geomspace(1e18, 1e20, 9)]
    (folder / "compute.csv").write_text("\n".join(["C,loss", *compute]))
    sweep = [
        f"{size:.0f},{step * 524_288},{lr},{loss * (1 + 0.01 * k)}"
        for step, row in zip(steps, wide, strict=True)
        for size, loss in zip(sizes, row, strict=True)
        for k, lr in enumerate((0.001, 0.002))
    ]
    (folder / "sweep.csv").write_text("\n".join(["params,tokens,lr,loss", *sweep]))


@pytest.mark.parametrize("document", [name for name, found in RUN_HERE.items() if found])
def test_every_command_of_a_document_runs(
    document: str, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(studies, work)
    monkeypatch.chdir(work)
    for command in RUN_HERE[document]:
        if find_spec("transformers") or not NEEDS_HF & set(command.words):
            run(command.text)


def test_the_documents_have_commands() -> None:
    assert sum(map(len, RUN_HERE.values())) > 30


def test_every_row_serves_a_command() -> None:
    words = [set(command.words) for found in RUN_HERE.values() for command in found]
    assert not [key for key in SMALL if not any(set(key.split()) <= own for own in words)]
    assert not [word for word in STANDS_FOR if not any(word in own for own in words)]
    assert not [name for name in SAYS_NO if not any({"scaling", name} <= own for own in words)]


@pytest.mark.parametrize("document", NAMES)
def test_no_command_hides_outside_a_shell_block(document: str) -> None:
    begun = re.compile(r"^\s*(\$ )?(scaling|make|python|pip|git) \S", flags=re.MULTILINE)
    for block in blocks(document):
        assert block.language in (*SHELL, "python", "yaml", "text"), f"{document}:{block.line}"
        assert block.language in SHELL or not begun.search(block.text), f"{document}:{block.line}"
    indented = [line for line in prose(document).splitlines() if line.startswith("    ")]
    assert not [line for line in indented if begun.match(line)]


@pytest.mark.parametrize("document", NAMES)
def test_every_marker_stands_above_a_shell_block(document: str) -> None:
    marked = [block for block in blocks(document) if block.not_run]
    assert all(block.language in SHELL for block in marked)
    assert (ROOT / document).read_text().count("<!-- not run") == len(marked)

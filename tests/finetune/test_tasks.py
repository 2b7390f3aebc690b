"""Tasks of fine-tuning: their tables and parts, and the scores of what a model answers."""

import json
from pathlib import Path

import pytest

from scaling.finetune.scores import by_group, rouge_l
from scaling.finetune.settings import read_settings
from scaling.finetune.stdlib_text import module_snippets
from scaling.finetune.tasks import STOP, TASKS, TRAIN, VAL, Translation


def test_no_document_is_in_two_parts_and_a_file_alone_is_cut_with_gaps() -> None:
    modules = module_snippets(12, 256, {VAL: 0.2, STOP: 0.1}, TRAIN)
    assert len(modules) == 12
    for parts in modules.values():
        documents = {part: {document for _, document in found} for part, found in parts.items()}
        if len(documents[TRAIN] | documents[VAL]) > 1:
            assert not documents[TRAIN] & documents[VAL]
            assert not documents[STOP] & (documents[TRAIN] | documents[VAL])
        for part in (TRAIN, STOP, VAL):
            assert parts[part]


def test_the_modules_task_gives_each_class_alike_and_nested_subsets() -> None:
    _, task, _ = read_settings(["task.classes=4", "task.examples=[40]", "task.scratch_examples=[]"])
    pool = task.read()
    for part in pool.parts.values():
        counts = {name: sum(example.answer == name for example in part) for name in pool.classes}
        assert max(counts.values()) - min(counts.values()) <= 0.02 * max(counts.values())  # two modules share a few
    texts = [{example.text for example in part} for part in pool.parts.values()]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]  # though files repeat each other
    small, large = (set(pool.chosen(size, 5, 5, 0).parts[TRAIN]) for size in (40, 100))
    assert small < large
    assert small != set(pool.chosen(40, 5, 5, 1).parts[TRAIN])


def test_a_jsonl_of_pairs_and_every_task_has_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"source": f"a {i}", "target": i}) + "\n" for i in range(50)))
    _, task, _ = read_settings(["task=translation", f"task.path={path}", "task.examples=[5]"])
    assert isinstance(task, Translation)
    pool = task.read()
    assert pool.classes == ()
    assert {example.answer for part in pool.parts.values() for example in part} == {str(i) for i in range(50)}
    for name, kind in TASKS.items():
        needed = ["task.path=x"] if "path" in kind.__dataclass_fields__ else []
        assert type(read_settings([f"task={name}", *needed])[1]) is kind
    with pytest.raises(ValueError, match="task.path is missing and has no default"):
        read_settings(["task=sentiment"])


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    # Lin 2004, section 3.1: "police kill the gunman" against "police killed the gunman" has LCS 3 of 4 and 4.
    assert rouge_l(["police kill the gunman"], ["police killed the gunman"], ["a"])["rouge_l"]["value"] == 0.75
    assert rouge_l(["the gunman kill police"], ["police killed the gunman"], ["a"])["rouge_l"]["value"] == 0.5
    assert rouge_l(["", "a b"], ["x", "a b"], ["a", "b"])["rouge_l"]["value"] == 0.5


def test_examples_of_one_document_do_not_make_an_error_small() -> None:
    values, ones = [1.0, 1.0, 0.0, 0.0] * 50, [1.0] * 200
    alone = by_group(values, ones, [str(i) for i in range(200)])
    together = by_group(sorted(values), ones, [str(i // 50) for i in range(200)])
    assert alone[0] == together[0] == 0.5
    assert alone[1] is not None
    assert together[1] is not None
    assert together[1] > 5 * alone[1]
    assert by_group([1.0, 0.0], [1.0, 1.0], ["a", "a"])[1] is None

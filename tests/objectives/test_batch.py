"""Batches: split, joined, copied and compared whole, their auxiliary targets too."""

import pytest
import torch

from scaling.objectives.batch import Batch, join


def batch(sequences: int = 4, predictions: int = 3, weighted: bool = True, auxiliary: bool = True) -> Batch:
    """Distinct numbers everywhere; one target of the first sequence does not count."""
    targets = torch.arange(sequences * predictions).view(sequences, predictions)
    weights = torch.ones(sequences, predictions)
    weights[0, 0] = 0
    follows = {"next": torch.arange(sequences)} if auxiliary else {}
    counted = sequences * predictions - 1 if weighted else sequences * predictions
    return Batch((targets + 100, targets + 200), targets, weights if weighted else None, counted, follows)


def same(one: Batch, other: Batch) -> bool:
    return one.is_like(other) and all(
        torch.equal(a, b) for a, b in zip(one._tensors().values(), other._tensors().values(), strict=True)
    )


@pytest.mark.parametrize("sequences", [1, 3])
def test_the_parts_of_a_batch_joined_are_the_batch(sequences: int) -> None:
    whole = batch()
    parts = list(whole.split(sequences))
    assert [len(part.targets_BP) for part in parts] == ([1, 1, 1, 1] if sequences == 1 else [3, 1])
    assert [part.predicted for part in parts] == ([2, 3, 3, 3] if sequences == 1 else [8, 3])
    assert same(join(parts), whole)
    assert join(parts).predicted == whole.predicted


def test_a_batch_that_is_not_split_is_itself() -> None:
    whole = batch()
    assert list(whole.split(4)) == [whole]
    assert [part.predicted for part in batch(weighted=False).split(3)] == [9, 3]


@pytest.mark.parametrize("other", [batch(predictions=2), batch(weighted=False), batch(auxiliary=False), batch(3)])
def test_batches_of_other_shapes_or_tensors_are_not_alike(other: Batch) -> None:
    assert batch().is_like(batch())
    assert not batch().is_like(other)
    assert not other.is_like(batch())


def test_a_clone_has_memory_of_its_own_and_a_copy_takes_the_others_values() -> None:
    first, second = batch(), batch().clone()
    second.targets_BP.zero_()
    second.auxiliary["next"].fill_(7)
    assert int(first.targets_BP[1, 1]) == 4
    first.copy_(second)
    assert same(first, second)
    assert first.targets_BP is not second.targets_BP


def test_a_strided_tensor_is_sent_to_a_gpu_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strided copy would wait for the GPU."""
    sent: list[torch.Tensor] = []

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        sent.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: tensor)
    chunk = torch.arange(12).view(3, 4)
    moved = Batch((chunk[:, :-1],), chunk[:, 1:], None, 9).to(torch.device("cuda"))
    assert len(sent) == 2
    assert all(tensor.is_contiguous() for tensor in sent)
    assert torch.equal(moved.targets_BP, chunk[:, 1:])

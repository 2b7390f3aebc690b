"""Slots: several joined into one for a run of several devices, which its processes part again."""

import pytest

from scaling.machine.slots import CORES, GPU_SHARE, Slot, gpu_ids, joined, rank_environment


def test_joined_slots_are_parted_again_by_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    both = joined(
        [Slot(f"gpu {gpu}", 4, {"CUDA_VISIBLE_DEVICES": gpu, GPU_SHARE: "1", CORES: "4"}) for gpu in ("2", "5")]
    )
    assert (both.name, both.threads, both.asked_threads) == ("gpu 2+5", 4, 4)
    for name, value in both.environment.items():
        monkeypatch.setenv(name, value)
    gpu_ids.cache_clear()
    try:
        assert [rank_environment(rank, 2) for rank in range(2)] == [
            {CORES: "4", "CUDA_VISIBLE_DEVICES": "2"},
            {CORES: "4", "CUDA_VISIBLE_DEVICES": "5"},
        ]
    finally:
        gpu_ids.cache_clear()


def test_joined_slots_of_a_cpu_have_their_cores_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Slot(f"cpu {i}", 3, {"CUDA_VISIBLE_DEVICES": "", CORES: "3"}, fixed=False) for i in range(3)]
    assert joined(parts[:1]) is parts[0]
    all_three = joined(parts)
    assert (all_three.name, all_three.asked_threads) == ("cpu 0+1+2", None)
    assert all_three.environment == {"CUDA_VISIBLE_DEVICES": "", CORES: "9"}
    monkeypatch.setenv(CORES, "9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu_ids.cache_clear()
    try:
        assert rank_environment(2, 3) == {CORES: "3"}
    finally:
        gpu_ids.cache_clear()

"""The associations source: its frequencies, labels and known law, and the refusal of other training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import zeta

from scaling.data.associations import LIMITS, Associations, check_recall, frequencies
from scaling.data.manifest import MANIFEST, OWN, _own_sha256, read_manifest
from scaling.data.prepare import DataConfig, identify, prepare
from scaling.spec.objective import Causal, Recall

BASE = 6
SOURCE = Associations(records=20_000, digits=3, zipf_exponent=1.5, seed=0)


def config(**changes) -> DataConfig:
    return DataConfig(replace(SOURCE, **changes), "none", BASE, 0.25)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(config(), identify(config()), tmp_path_factory.mktemp("cache"), progress=False)


def records(tokens: np.ndarray) -> np.ndarray:
    return tokens.reshape(-1, SOURCE.digits + 1)


def codes(tokens: np.ndarray) -> np.ndarray:
    return records(tokens)[:, :-1] @ BASE ** np.arange(SOURCE.digits)[::-1]


def test_frequencies_are_zipfs_over_all_ranks_of_which_the_later_are_one():
    share = frequencies(1.5, 1000)
    assert share.sum() == pytest.approx(1, abs=1e-12)
    assert share[7] / share[0] == pytest.approx(8**-1.5)
    assert share[0] == pytest.approx(1 / zeta(1.5))
    assert share[-1] == pytest.approx(2 / zeta(1.5) / math.sqrt(1000.5), rel=1e-6)  # the integral over later ranks


def test_validation_has_the_laws_frequencies_to_within_a_record(data):
    counted = np.sort(np.bincount(codes(data.val), minlength=BASE**3))[::-1]
    share = np.sort(frequencies(1.5, BASE**3 - 1))[::-1]
    assert np.abs(counted - share * len(records(data.val))).max() <= 1.5  # two ends of an interval of the ladder


def test_training_records_are_draws_from_the_law(data):
    counted = np.sort(np.bincount(codes(data.train), minlength=BASE**3))[::-1]
    expected = np.sort(frequencies(1.5, BASE**3 - 1))[::-1] * len(records(data.train))
    assert ((counted - expected) ** 2 / expected).sum() < 2 * BASE**3  # chi-square of 215 degrees of freedom
    assert np.abs(counted - expected).max() > 5  # no systematic sample


def test_each_code_has_one_label_but_for_the_code_of_the_later_ranks(data):
    labels: dict[int, set[int]] = {}
    for code, label in zip(codes(data.train), records(data.train)[:, -1], strict=True):
        labels.setdefault(int(code), set()).add(int(label))
    several = [code for code, found in labels.items() if len(found) > 1]
    assert len(several) == 1
    assert labels[several[0]] == set(range(BASE))
    assert {label for found in labels.values() for label in found} == set(range(BASE))
    for code, label in zip(codes(data.val), records(data.val)[:, -1], strict=True):
        assert int(code) in several or int(label) in labels.get(int(code), {int(label)})


def test_the_manifest_states_the_law_and_the_least_loss(data):
    unknown = zeta(1.5, BASE**3) / zeta(1.5)
    assert data.manifest.truth == {
        "floor_nats": 0.0,
        "params": 0.5,
        "tokens": pytest.approx(1 / 3),
        "least_loss_nats": pytest.approx(unknown * math.log(BASE)),
    }
    assert data.manifest.entropies_nats is None


def test_a_manifest_from_before_known_laws_is_whole(tmp_path):
    spec = identify(config())
    prepare(config(), spec, tmp_path, progress=False)
    (path,) = tmp_path.glob(f"*/{MANIFEST}")
    values = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("truth", OWN)}
    path.write_text(json.dumps({**values, OWN: _own_sha256(values)}))
    assert read_manifest(path.parent)[0].truth is None


@pytest.mark.parametrize("change", [{"records": 20_001}, {"digits": 2}, {"zipf_exponent": 1.6}, {"seed": 1}])
def test_every_setting_is_part_of_the_identity(change):
    assert identify(config(**change)).fingerprint != identify(config()).fingerprint


@pytest.mark.parametrize("name", LIMITS)
def test_settings_outside_their_limits_are_refused(name):
    with pytest.raises(ValueError, match=rf"data\.source\.{name} must"):
        replace(SOURCE, **{name: -1})


def test_more_codes_than_memory_is_for_are_refused_with_the_largest_vocabulary():
    with pytest.raises(ValueError, match="take data.vocab_size up to 161"):
        SOURCE.check(162)
    SOURCE.check(161)


def test_associations_are_trained_on_by_recall_of_whole_records_alone():
    check_recall(SOURCE, Recall("recall"), 3)
    check_recall(object(), Causal("causal"), 64)
    for objective, context in ((Causal("causal"), 3), (Recall("recall"), 4)):
        with pytest.raises(ValueError, match=r"objective=recall and model.context=3"):
            check_recall(SOURCE, objective, context)

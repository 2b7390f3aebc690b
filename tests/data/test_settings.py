"""From conf/data to DataConfig: every preset composes, and each setting arrives."""

import pytest

from scaling.config.config import CONF_DIR, compose, data_config
from scaling.config.settings import DataSettings
from scaling.data.sources import SOURCES

PRESETS = sorted(path.stem for path in (CONF_DIR / "data").glob("*.yaml") if path.stem != "plain")
NAMED = {"fineweb-edu": "hf"}  # presets of one data set each, by the kind of their source
MISSING = {"text": ["data.source.paths=x"], "tokens": ["data.source.train=x"], "hf": ["data.source.path=x"]}


def configured(*overrides: str):  # type: ignore[no-untyped-def]
    from omegaconf import OmegaConf

    section = compose(overrides).data
    return data_config(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataSettings), section)))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_leaves_the_data_as_they_are(preset):
    found = configured(f"data={preset}", *MISSING.get(preset, []))
    assert found.source.kind == NAMED.get(preset, preset)
    assert (found.noise, found.duplicate, found.tokenizer_path, found.end_token) == (0.0, 0.0, None, None)


def test_every_source_has_a_preset():
    assert sorted(SOURCES) == sorted({*PRESETS} - {*NAMED})


def test_each_setting_arrives():
    overrides = ["tokenizer=hf", "tokenizer_path=t.json", "end_token='[SEP]'", "noise=0.1", "duplicate=0.2"]
    found = configured("data=text", "data.source.paths=x", *(f"data.{o}" for o in overrides), "data.quality_seed=3")
    assert (found.tokenizer, found.tokenizer_path, found.end_token) == ("hf", "t.json", "[SEP]")
    assert (found.noise, found.duplicate, found.quality_seed) == (0.1, 0.2, 3)


def test_the_settings_of_a_data_set_arrive():
    names = ["config=c", "split=s", "field=f", "revision=r", "streaming=true", "max_documents=7", "text_bytes=9"]
    found = configured("data=hf", "data.source.path=owner/name", *(f"data.source.{name}" for name in names)).source
    assert (found.path, found.config, found.split, found.field) == ("owner/name", "c", "s", "f")
    assert (found.revision, found.streaming, found.max_documents) == ("r", True, 7)
    assert found.text_bytes == found.content_bytes() == 9

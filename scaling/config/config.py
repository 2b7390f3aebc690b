"""Hydra's configuration turned into a run: composed, validated, resolved. Dict configs end here and in `grid.py`."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from scaling.config.presets import CONF_DIR
from scaling.config.settings import Config, DataSettings, ModelSettings, RuntimeSettings
from scaling.data.associations import check_recall
from scaling.data.prepare import DataConfig, identify, known_specials
from scaling.data.pretrained import END_TOKENS
from scaling.data.sources import SOURCES, Source, TextSource
from scaling.plan.parents import Parent, read_parent
from scaling.plan.run import Run
from scaling.registry import choose
from scaling.shapes.families import SHAPES
from scaling.shapes.flops import OPTIMIZER_FLOPS
from scaling.shapes.shape import TransformerShape
from scaling.spec.budget import allocate
from scaling.spec.objective import (
    OBJECTIVE_SPECS,
    Objective,
    SpecialIds,
    asks_next_sentence,
    check_pair,
    own_ids,
    special_ids,
)
from scaling.spec.parallel import AUTO
from scaling.spec.recipe import LAWS, law_of, resolve
from scaling.spec.run_spec import DataSpec, RunSpec
from scaling.spec.runtime import Runtime, check_study

T = TypeVar("T")
NO_SETTINGS = ("hydra", "_target_")  # Hydra's own keys beside settings
ConfigStore.instance().store(name="settings", node=Config)


def user_search_path() -> list[str]:
    """The override that also finds a user's own config groups, in ./conf; empty without that folder."""
    own = Path.cwd() / "conf"
    if not own.is_dir() or own.resolve() == CONF_DIR:
        return []
    return [f"hydra.searchpath=[{quoted(f'file://{own}')}]"]


def quoted(text: object) -> str:
    """A text, such as a path, as a quoted value of an override, whatever marks of Hydra it holds."""
    return "'" + re.sub(r"(\\*)(?='|$)", r"\1\1", str(text)).replace("'", r"\'") + "'"


def compose(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """The configuration under these command-line overrides, Hydra's own included; ValueError if they do not fit.

    `name` is the file in conf/ that composition starts from.
    """
    with hydra_here(anew=True):
        try:
            return hydra_compose(name, overrides=[*user_search_path(), *overrides], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(in_words(error, overrides)) from error


@contextmanager
def hydra_here(*, anew: bool = False) -> Iterator[None]:
    """Within, Hydra composes from conf/: in the application that is running, or `anew`."""
    if GlobalHydra.instance().is_initialized() and not anew:
        yield
    else:
        with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3", job_name="scaling"):
            yield


def check_folders(hydra: Any, runs_dir: str, study: str) -> None:
    """ValueError for a folder of Hydra's own that is not the study's, where all runs lie."""
    check_study(study)
    where = Path(runs_dir) / study
    for name, value in (("run.dir", hydra.run.dir), ("sweep.dir", hydra.sweep.dir)):
        if Path(value) != where:
            refuse_folder(f"hydra.{name}", value)
    if hydra.sweep.subdir != ".":
        refuse_folder("hydra.sweep.subdir", hydra.sweep.subdir)


def refuse_folder(name: str, value: str) -> None:
    """ValueError for a setting of Hydra's folders."""
    raise ValueError(
        f"{name}={value}: the runs of a study lie in runs_dir/study, by their ids, so that no run is trained twice; "
        f"choose the folder with runs_dir=DIR study=NAME"
    )


def in_words(error: Exception, overrides: Sequence[str] = ()) -> str:
    """An error of Hydra or OmegaConf in one line, with the settings or files that exist where one does not."""
    if isinstance(error, MissingConfigException) and (wrong := _no_file(error)):
        return wrong
    chain = (error.__cause__, error, error.__context__)
    cause = next((one for one in chain if isinstance(one, OmegaConfBaseException)), error)
    first = re.sub(r": \w+ raised while composing config:$", "", str(error).strip().partition("\n")[0].rstrip("."))
    key, kind = getattr(cause, "full_key", None), getattr(cause, "object_type", None)
    if not key:
        return " ".join(str(error).split())
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        reason = str(cause).strip().partition("\n")[0]
        return f"{first}: {reason}" if cause is not error else f"{key}: {reason}"
    if key == "sweep":
        remedy = "let the file begin with # @package _global_"
        return f"{first}: its settings lie below 'sweep', where nothing reads them; {remedy}"
    where, _, name = key.rpartition(".")
    names = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else _names(where, overrides)
    try:
        choose(f"setting of {where}" if where else "setting", dict.fromkeys(names), name)
    except ValueError as unknown:
        return f"{first}: {unknown}" if overrides else str(unknown)
    return first


def _no_file(error: MissingConfigException) -> str:
    """The words on a config group that lacks the file asked for; empty where the file is there, and lacks another."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    with hydra_here():  # Hydra states the files of a group, but not where several of them are asked for
        there = error.options or GlobalHydra.instance().config_loader().get_group_options(group)
    try:
        choose(group, dict.fromkeys(there), name)
    except ValueError as unknown:
        return str(unknown) if there else ""
    return ""


def _names(where: str, overrides: Sequence[str]) -> list[str]:
    """Names of the settings below a key, under those of the overrides that pick config groups."""
    groups = [part for part in overrides if "." not in part.partition("=")[0] and "{" not in part and "," not in part]
    cfg = _composed(groups)
    if cfg is None:  # one of them is wrong, too
        cfg = _composed([part for part in groups if _composed([part]) is not None])
    found = None if cfg is None else OmegaConf.select(cfg, where)
    return [str(name) for name in found] if isinstance(found, DictConfig) else []


def _composed(overrides: Sequence[str]) -> DictConfig | None:
    """The configuration under these overrides; None where they do not fit."""
    try:
        with hydra_here():
            return hydra_compose("config", overrides=[*user_search_path(), *overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return None


def typed(cfg: DictConfig, settings: type[T], where: str = "") -> T:
    """The settings that a dataclass names, checked and as plain values; ValueError names the remedy.

    They lie at `where` in the whole configuration.
    """
    names = [f.name for f in dataclasses.fields(settings)]  # type: ignore[arg-type]
    refuse_unread(cfg, names, where)
    if OmegaConf.get_type(cfg) is not settings:  # composition typed no other class than Config
        try:
            merged = OmegaConf.merge(OmegaConf.structured(settings), OmegaConf.masked_copy(cfg, names))
        except OmegaConfBaseException as error:
            raise ValueError(in_words(error)) from error
        assert isinstance(merged, DictConfig)
        cfg = merged
    return settings(**{name: plain(cfg, name) for name in names})


def refuse_unread(cfg: DictConfig, names: Sequence[str], where: str = "") -> None:
    """ValueError for a setting added with + that is none of the names and that no other setting refers to."""
    for key in map(str, cfg):
        if key in names or key in NO_SETTINGS or re.search(rf"\$\{{\.*{re.escape(key)}\b", OmegaConf.to_yaml(cfg)):
            continue
        choose(
            f"setting of {where}" if where else "setting", dict.fromkeys(names if where else [*names, "+sweep"]), key
        )


def plain(cfg: DictConfig, name: str) -> Any:
    """The value of one field of a typed configuration, checked, nested settings as their dataclass."""
    try:
        node = cfg[name]
        value = OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key} is missing and has no default; give {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ValueError(in_words(error)) from error
    _check_known(value, name)
    return value


def _check_known(settings: Any, path: str) -> None:
    """ValueError for a setting that the command line added with + and that no field of the settings receives."""
    if not dataclasses.is_dataclass(settings):
        return
    names = [f.name for f in dataclasses.fields(settings)]
    for name, value in vars(settings).items():
        choose(f"setting of {path}", dict.fromkeys(names), name)
        _check_known(value, f"{path}.{name}")


# Identity of data, and the special tokens of a pretrained tokenizer, by the data's settings.
Known = dict[str, tuple[DataSpec, Mapping[str, int]]]


def to_run(cfg: DictConfig, known: Known | None = None, specials: Mapping[str, int] | None = None) -> Run:
    """The run that a configuration describes; see `run_of`."""
    return run_of(typed(cfg, Config), known, specials)


def run_of(config: Config, known: Known | None = None, specials: Mapping[str, int] | None = None) -> Run:
    """The run that typed settings describe, validated and resolved; ValueError names the remedy.

    `known` keeps the identity of data between calls, so that a sweep reads its sources once. `specials` are the special
    tokens of the model's own tokenizer; without them those of the data's tokenizer are used.
    """
    data = data_config(config.data)
    cache_dir = Path(config.cache_dir)
    known = {} if known is None else known
    key = repr(data)
    if key not in known:
        known[key] = identify(data, cache_dir), known_specials(data)
    data_spec, found = known[key]
    parent = None if config.init_from is None else read_parent(config.init_from)
    shape, objective, special = _model(config, data_spec, found if specials is None else specials, parent)
    if (setting := objective.needs_text()) and not isinstance(data.source, TextSource):
        raise ValueError(
            f"{setting} asks where words or sentences begin, which a {data.source.kind} source of ready tokens does "
            f"not say; use a source of text"
        )
    check_recall(data.source, objective, shape.context)
    rules, optimizer_flops = config.recipe, OPTIMIZER_FLOPS[config.recipe.optimizer](shape)
    allocation = allocate(shape, config.budget, rules.batch_tokens, optimizer_flops, rules.reference_flops)
    by_law = None
    if rules.reference_flops is not None:
        by_law = resolve(rules, shape, allocate(shape, config.budget, rules.batch_tokens, optimizer_flops))
    spec = RunSpec(
        model=shape,
        objective=objective,
        special=special,
        data=data_spec,
        recipe=resolve(rules, shape, allocation),
        val_tokens=config.val_tokens,
        seed=config.seed,
    )
    if asks_next_sentence(objective) and spec.recipe.batch_sequences < 2:
        raise ValueError(
            f"objective.next_sentence=true takes the texts that do not follow from the batch's other sequences, but a "
            f"batch of this recipe is one sequence of model.context={shape.context}: set "
            f"recipe.batch_tokens.at_least={2 * shape.context} or more, or objective.next_sentence=false"
        )
    if parent is not None:
        parent.check(f"init_from={config.init_from}", data_spec, spec.recipe, cache_dir)
        spec = parent.continued(spec)
    runtime = _runtime(config, cache_dir)
    return Run(spec, allocation, data, runtime, config.budget, config.recipe.tuned, by_law, parent)


def _model(
    config: Config, data: DataSpec, specials: Mapping[str, int], parent: Parent | None
) -> tuple[TransformerShape, Objective, SpecialIds | None]:
    """The model, its objective and the ids of the objective's tokens, as configured or as the parent has them."""
    if parent is not None:
        return parent.spec.model, parent.spec.objective, parent.spec.special
    objective = asked_objective(config.objective)
    own = own_ids(objective, config.model.context, specials)
    shape = model_shape(config.model, data.vocab_size, objective, own)
    end_id = data.end_id  # None for ready tokens, whose tokenizer is not given
    if end_id is None:
        end_id = next((specials[token] for token in END_TOKENS if token in specials), None)
    return shape, objective, special_ids(objective, shape.context, shape.vocab_size, own, end_id)


def _runtime(config: Config, cache_dir: Path) -> Runtime:
    settings = {f.name: getattr(config.runtime, f.name) for f in dataclasses.fields(RuntimeSettings)}
    settings["eval_fractions"] = tuple(settings["eval_fractions"])
    settings["devices_by_plan"] = by_plan = settings["devices_per_run"] == AUTO
    settings["devices_per_run"] = settings["nodes_per_run"] if by_plan else settings["devices_per_run"]
    return Runtime(
        study=config.study,
        runs_dir=Path(config.runs_dir),
        cache_dir=cache_dir,
        question=config.question,
        trackers=config.tracker.chosen(),
        tracker_settings=config.tracker.settings,
        **settings,
    )


def asked_objective(settings: Mapping[str, Any]) -> Objective:
    """The objective that the settings name, its own settings checked."""
    asked = choose("objective.kind", OBJECTIVE_SPECS, settings.get("kind", ""))
    names = tuple(f.name for f in dataclasses.fields(asked))
    kind = settings["kind"]
    _check_settings("objective", settings, names, f"{kind} objective", f"; objective={kind} has every setting")
    return asked(**settings)


def model_shape(
    settings: ModelSettings, data_vocab_size: int, objective: Objective, known: Collection[str] = ()
) -> TransformerShape:
    """The shape with every derived dimension filled in, the objective's lengths among them.

    `known` are the tokens of the objective that the data's vocabulary has already.
    """
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(ModelSettings)}
    ratio, multiple, own = values.pop("ff_ratio"), values.pop("ff_multiple"), dict(values.pop("family"))
    if values["n_kv_heads"] is None:
        values["n_kv_heads"] = values["n_heads"]
    if values["d_ff"] is None:
        values["d_ff"] = math.ceil(ratio * values["d_model"] / multiple - 1e-9) * multiple
    shape = choose("model.kind", SHAPES, settings.kind)
    check_pair(settings.kind, objective)
    lengths = objective.lengths(settings.context)
    added = [name for name in objective.added_tokens(settings.context) if name not in known]
    needed = data_vocab_size + len(added)
    if values["vocab_size"] is None:
        values["vocab_size"] = needed
    elif values["vocab_size"] < needed:
        others = f" and the {len(added)} that objective={objective.kind} adds ({', '.join(added)})" if added else ""
        raise ValueError(
            f"model.vocab_size={values['vocab_size']} is smaller than data.vocab_size={data_vocab_size}{others}; "
            f"leave model.vocab_size=null to follow the data"
        )
    follows = {
        "predicted": lengths.predicted,
        "target_context": lengths.target,
        "next_sentence": asks_next_sentence(objective),
    }
    fields = [f.name for f in dataclasses.fields(shape) if f.name not in values]
    _check_settings("model.family", own, [f for f in fields if f not in follows], f"model of kind {settings.kind}")
    resolved: dict[str, Any] = values | own | {name: follows[name] for name in fields if name in follows}
    return shape(**resolved)


def data_config(settings: DataSettings) -> DataConfig:
    """The data that the settings ask for; the kind of the source names its class."""
    own = dict(settings.source)
    source = choose("data.source.kind", SOURCES, own.pop("kind", ""))
    _check_settings("data.source", own, [f.name for f in dataclasses.fields(source)], f"{source.kind} source")
    values = {k: _paths(v) if k in ("paths", "train", "val") else v for k, v in own.items()}
    built: Source = source(**values)  # type: ignore[arg-type]  # the fields of this kind, checked above
    others = {f.name: getattr(settings, f.name) for f in dataclasses.fields(DataSettings) if f.name != "source"}
    return DataConfig(built, **others)


def _check_settings(prefix: str, given: Mapping[str, Any], names: Sequence[str], owner: str, remedy: str = "") -> None:
    """ValueError for a setting that its owner does not have, or lacks."""
    article = "an" if owner[0] in "aeiou" else "a"
    if unknown := [name for name in given if name not in names]:
        has = f"it has {', '.join(names)}" if names else "it has none"
        raise ValueError(f"{prefix}.{unknown[0]}: {article} {owner} has no such setting; {has}")
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"{prefix}.{missing[0]} is missing: {article} {owner} needs it{remedy}")


def _paths(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def recipe_values(cfg: DictConfig) -> dict[str, Any]:
    """The recipe of a configuration as plain values, its laws not resolved to a scale, constants among them."""
    values = OmegaConf.to_container(cfg.recipe, resolve=True)
    assert isinstance(values, dict)
    laws = {name: dataclasses.asdict(law_of(f"recipe.{name}", values[name])) for name in LAWS}
    return {str(name): laws.get(str(name), value) for name, value in values.items()}


def task_overrides(cfg: DictConfig) -> list[str]:
    """The overrides that a configuration was composed with, without Hydra's own, which Hydra's launchers add."""
    return [str(one) for one in cfg.hydra.overrides.task]

"""Composes a `TrainConfig` from ``conf/``, the user's folders and the words typed.

Owns the one place where Hydra composes, and the order in which faults are sought:
words, choices, values, missing values, rules. Plain dataclasses leave it. Must never
import torch or Ray, because a bad configuration is answered before either is loaded.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from trainer.config.catalogue import SHIPPED_DIR
from trainer.config.redaction import redact_words
from trainer.config.resolve import fill_missing, to_dataclasses
from trainer.config.rules import find_faults
from trainer.config.schema import TrainConfig
from trainer.config.store import register_schemas
from trainer.config.values import set_values
from trainer.config.words import Words, read_words
from trainer.errors import ConfigError, Fault

# Hydra composes through a process-wide object.
_hydra_lock = threading.Lock()
_FULL_KEY = re.compile(r"full_key: (\S+)")
# ValueError is what Hydra raises on a defaults list that is none.
_COMPOSITION_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
)


def load_config(
    words: Sequence[str] = (), *, config_dirs: Sequence[str] = ()
) -> TrainConfig:
    """Returns the resolved configuration of a run.

    Without words it is ``experiment=digits``. Words that name a task and no experiment
    start from ``experiment=none``; ``task._target_=...`` without ``task=...`` implies
    ``task=custom`` (and so for the optimizer). Where nothing says when the run ends
    and no word speaks of it, it is one epoch.

    Args:
        words: overrides in Hydra's syntax, as ``python -m trainer`` takes them.
        config_dirs: folders with options of the user's own, group by group.

    Raises:
        ConfigError: the words or files have faults; names all of them.
    """
    typed = [str(word) for word in words]
    sorted_words = read_words(typed, config_dirs)
    faults = list(sorted_words.faults)
    with _composition_faults(faults, typed):
        composed, experiment = _compose_choices(sorted_words)
        faults += set_values(composed, sorted_words.values)
        _set_end(composed, sorted_words)
        faults += fill_missing(composed)
        config = to_dataclasses(composed)
    judged = {fault.path for fault in faults}
    faults += [fault for fault in find_faults(config) if fault.path not in judged]
    faults = [fault for fault in faults if _stands(fault, sorted_words)]
    if faults:
        raise ConfigError(faults)
    return dataclasses.replace(config, experiment=experiment, overrides=typed)


def _compose_choices(words: Words) -> tuple[DictConfig, str | None]:
    """Gives what Hydra composes from the choices, and the experiment among them."""
    folders = ",".join(f"'{_quoted(folder)}'" for folder in words.catalogue.config_dirs)
    overrides = [f"hydra.searchpath=[{folders}]", *words.choices]
    with _hydra_session():
        composed = compose("train", overrides=overrides, return_hydra_config=True)
    experiment = composed.hydra.runtime.choices.get("experiment")
    with open_dict(composed):
        del composed["hydra"]
    return composed, experiment


@contextmanager
def _hydra_session() -> Iterator[None]:
    """Holds Hydra's process-wide state, and puts back the one of an outer Hydra app."""
    with _hydra_lock:
        version = VersionBase.instance()
        outer_app, outer_version = GlobalHydra.instance().hydra, version.version_base
        GlobalHydra.instance().clear()
        try:
            register_schemas()
            with initialize_config_dir(str(SHIPPED_DIR), version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = outer_app
            version.version_base = outer_version


def _quoted(folder: str) -> str:
    return "file://" + folder.replace("\\", "\\\\").replace("'", "\\'")


def _stands(fault: Fault, words: Words) -> bool:
    """Keys of a group whose option is unknown cannot be judged, only their syntax."""
    group = fault.path.partition(".")[0]
    return group not in words.undecided or fault in words.faults


def _set_end(composed: DictConfig, words: Words) -> None:
    """Ends a run after one epoch when neither a file nor a word says when it ends."""
    keys = [value.key_or_group for value in words.values]
    if any(key.partition(".")[0] == "duration" for key in keys):
        return
    if all(limit is None for limit in composed.duration.values()):
        composed.duration.max_epochs = 1


@contextmanager
def _composition_faults(faults: list[Fault], typed: Sequence[str]) -> Iterator[None]:
    """Translates what Hydra says of the user's files, the shipped ones being tested."""
    try:
        yield
    except _COMPOSITION_ERRORS as error:
        said = str(error) if str(error) else str(error.__cause__)
        key = getattr(error, "full_key", None) or _FULL_KEY.search(said)
        path = key[1] if isinstance(key, re.Match) else key or "conf"
        lines = [line for line in said.splitlines() if line and not line[0].isspace()]
        fault = Fault(
            path=path,
            value=_typed_for(path, typed),
            rule=f"Hydra cannot compose this: {' '.join(lines[:2])}",
            remedy="mend the file, or type another option; a group that train.yaml does"
            " not name is added with +group=option",
        )
        raise ConfigError([*faults, fault]) from error


def _typed_for(path: str, typed: Sequence[str]) -> str:
    for word in redact_words(typed):
        key, _, text = word.partition("=")
        if key.lstrip("+~") == path:
            return text
    return "(in a file)"

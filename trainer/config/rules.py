"""Every rule that a composed configuration must keep, the ones on a run's folder here.

Collects faults and stops at none. Must never import torch, Ray or a user's module.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.util import find_spec

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.arguments import argument, is_target, targets_below
from trainer.config.bounds import bound_faults
from trainer.config.naming import listed, nearest
from trainer.config.redaction import redact_value
from trainer.config.schema import Resume, SupervisedTargetConfig, TrainConfig
from trainer.config.training_rules import training_faults
from trainer.config.worker_rules import worker_faults
from trainer.errors import ConfigError, Fault

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def find_faults(config: TrainConfig) -> list[Fault]:
    """Returns every fault of a configuration whose single values have their types."""
    return [
        *_folder_faults(config),
        *_mlflow_faults(config),
        *_resume_faults(config),
        *_target_faults(config),
        *bound_faults(config),
        *worker_faults(config),
        *training_faults(config),
    ]


def check(config: TrainConfig) -> None:
    """Raises what is wrong with a configuration that Python code has made or changed.

    Raises:
        ConfigError: names every fault; of values of a wrong type only the first.
    """
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    for path, section in [*sections.items(), ("", config)]:
        if is_dataclass(section):
            _check_types(path, section)
    faults = find_faults(config)
    if faults:
        raise ConfigError(faults)


def _check_types(path: str, section: object) -> None:
    try:
        OmegaConf.structured(section)
    except OmegaConfBaseException as error:
        name = error.full_key or ""
        value = functools.reduce(argument, name.split("."), section)
        fault = Fault(
            path=f"{path}.{name}".strip("."),
            value=redact_value(name, value),
            rule=str(error).splitlines()[0],
            remedy="give it the type of its field",
        )
        raise ConfigError([fault]) from error


def _folder_faults(config: TrainConfig) -> Iterator[Fault]:
    if config.name is not None:
        parts = [_NOT_IN_A_NAME.sub("-", part) for part in config.name.split("/")]
        good = "/".join(part for part in parts if part.strip(".-"))
        if good != config.name:
            yield Fault(
                path="name",
                value=config.name,
                rule="must be a folder below storage_url: letters, digits, '.', '_' and"
                " '-', with '/' between folders",
                remedy=f"set name={good or 'my_run'}",
            )
    url = config.storage_url
    if not url:
        rule = "must be a folder or a URL"
        yield Fault(
            path="storage_url", value="", rule=rule, remedy="set storage_url=runs"
        )
    if config.logging.tensorboard and "://" in url and not url.startswith("file://"):
        yield Fault(
            path="logging.tensorboard",
            value="true",
            rule="event files need a local folder, and storage_url is"
            f" {redact_value('storage_url', url)}",
            remedy="set logging.tensorboard=false",
        )


def _mlflow_faults(config: TrainConfig) -> Iterator[Fault]:
    has_server = (
        config.logging.mlflow_tracking_uri or "MLFLOW_TRACKING_URI" in os.environ
    )
    if config.logging.mlflow and not has_server:
        yield Fault(
            path="logging.mlflow_tracking_uri",
            value="null",
            rule="must name the tracking server, or MLFLOW_TRACKING_URI must",
            remedy="set logging.mlflow_tracking_uri=http://127.0.0.1:5000",
        )


def _resume_faults(config: TrainConfig) -> Iterator[Fault]:
    if config.resume is Resume.required and config.name is None:
        yield Fault(
            path="resume",
            value="required",
            rule="only a run with a name can be found again",
            remedy="set name=my_run",
        )
    for path in config.resume_allow:
        yield from _unknown_path(config, path)


def _unknown_path(config: TrainConfig, path: str) -> Iterator[Fault]:
    node: object = config
    parent = ""
    for name in path.split("."):
        if isinstance(node, dict) or (node is None and parent):
            return
        valid = [field.name for field in fields(node)] if is_dataclass(node) else []
        if name not in valid:
            near = nearest(name, valid)
            yield Fault(
                path="resume_allow",
                value=path,
                rule=f"{parent or 'the root'} has no key {name}"
                + (f"; its keys are {listed(valid)}" if valid else ""),
                remedy=f"set resume_allow=[{parent}{'.' if parent else ''}{near}]"
                if near
                else f"set resume_allow=[{parent}]",
            )
            return
        node = getattr(node, name)
        parent = f"{parent}.{name}" if parent else name


def _target_faults(config: TrainConfig) -> Iterator[Fault]:
    required: dict[str, object] = {
        "task": config.task,
        "optimizer": config.optimizer,
        "strategy": config.strategy,
        **{f"callbacks.{name}": node for name, node in config.callbacks.items()},
    }
    if isinstance(config.task, SupervisedTargetConfig):
        required |= _parts_of_supervised(config.task)
    for path, node in required.items():
        if not is_target(node):
            yield Fault(
                path=path,
                value=redact_value(path, node),
                rule="must name what to build by _target_",
                remedy=f"set {path}._target_=my_pkg.MyClass",
            )
    for root in ("task", "optimizer", "strategy", "callbacks"):
        for path, node in targets_below(getattr(config, root), root):
            yield from _module_faults(f"{path}._target_", argument(node, "_target_"))
    if is_target(config.optimizer) and not _is_number(argument(config.optimizer, "lr")):
        yield Fault(
            path="optimizer.lr",
            value=argument(config.optimizer, "lr"),
            rule="must be a number, because the schedule scales it",
            remedy="set optimizer.lr=0.001",
        )


def _parts_of_supervised(task: SupervisedTargetConfig) -> dict[str, object]:
    parts: dict[str, object] = {
        "task.model": task.model,
        "task.train_data": task.train_data,
        **{f"task.metrics.{name}": node for name, node in task.metrics.items()},
    }
    optional = {"task.eval_data": task.eval_data, "task.loss": task.loss}
    return parts | {path: node for path, node in optional.items() if node is not None}


def _module_faults(path: str, target: object) -> Iterator[Fault]:
    """Looks for the module at the top only: that imports nothing of the user's."""
    top, dot, _ = str(target).partition(".")
    if dot and (top in sys.modules or (top.isidentifier() and find_spec(top))):
        return
    missing = f"there is no module {top} installed or in the working directory"
    yield Fault(
        path=path,
        value=target,
        rule=missing if dot else "must be the full name, module.Class",
        remedy=f"set {path}=my_pkg.MyClass",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

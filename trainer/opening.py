"""Opening a run's folder: start it, continue it, answer from it, or refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from trainer.config import (
    Resume,
    TrainConfig,
    difference,
    is_allowed_to_change,
    redact_words,
    to_dict,
)
from trainer.config.plain import ABSENT
from trainer.errors import ConfigError, Fault, ResumeError
from trainer.provenance import collect
from trainer.result import Status, TrainResult
from trainer.run_folder import (
    CONFIG,
    OVERRIDES,
    PROVENANCE,
    RESULT,
    RunFolder,
)


def new_run_name(config: TrainConfig) -> str:
    """Returns a name that says what is trained and since when."""
    return f"{config.experiment}-{time.strftime('%Y%m%d-%H%M%S')}"


def run_folder(config: TrainConfig) -> RunFolder:
    """Returns the folder of a configuration whose `name` is set."""
    assert config.name is not None
    return RunFolder(config.storage_url, config.name, config.storage_options)


def open_run(folder: RunFolder, config: TrainConfig) -> TrainResult | None:
    """Starts or continues the run in a folder, or returns its result when it is done.

    Only rank 0, or the driver before there are ranks, may call this.

    Raises:
        ResumeError: the folder's run is not what these words may continue.
    """
    earlier = folder.read_yaml(CONFIG)
    # What has saved nothing has nothing to be continued wrongly.
    has_begun = earlier is not None and folder.has_checkpoint()
    if earlier is None:
        if config.resume is Resume.required:
            raise ResumeError([_nothing_to_resume(folder)])
    else:
        if config.resume is Resume.never:
            raise ResumeError([_already_there(folder)])
        if has_begun:
            _check_same(folder, config, earlier)
        result = folder.read_json(RESULT)
        if result is not None and _is_final(result, config, earlier):
            return TrainResult.from_json(result)
        # The result of an end that was moved must not stand again once the new
        # configuration is written.
        folder.storage.delete(RESULT)
    words = redact_words(config.overrides)
    if not has_begun:
        folder.write_json(PROVENANCE, collect(words))
        folder.write_yaml(OVERRIDES, words)
    if earlier != to_dict(config):
        folder.write_yaml(CONFIG, to_dict(config))
    folder.add_event("run_started", overrides=words)
    return None


def _is_final(
    result: dict[str, Any], config: TrainConfig, earlier: dict[str, Any]
) -> bool:
    """Whether a result stands: the run is complete and its end was not moved."""
    changed = [path for path, _, _ in difference(earlier, to_dict(config))]
    is_moved = not all(is_allowed_to_change(path, []) for path in changed)
    return result["status"] == Status.COMPLETED and not is_moved


def _check_same(
    folder: RunFolder, config: TrainConfig, earlier: dict[str, Any]
) -> None:
    faults = [
        Fault(
            path=path,
            value=_as_typed(new),
            rule=f"the run {folder.url} was started with {_as_typed(old)}",
            remedy=(
                f"{_way_back(path, old)}, allow the change by resume_allow=[{path}], "
                "or give another name="
            ),
        )
        for path, old, new in difference(earlier, to_dict(config))
        if not is_allowed_to_change(path, config.resume_allow)
    ]
    if faults:
        raise ResumeError(faults)


def _way_back(path: str, old: object) -> str:
    if old == ABSENT:
        return f"leave {path} out"
    return f"type {path}={_as_typed(old)}"


def _as_typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _already_there(folder: RunFolder) -> Fault:
    return Fault(
        path="resume",
        value="never",
        rule=f"{folder.url} already holds a run",
        remedy="give another name= or type resume=auto",
    )


def _nothing_to_resume(folder: RunFolder) -> Fault:
    return Fault(
        path="resume",
        value="required",
        rule=f"{folder.url} holds nothing to continue",
        remedy="correct name= and storage_url=, or type resume=auto",
    )


def require_checkpoint(folder: RunFolder, config: TrainConfig) -> None:
    """Refuses to start from nothing under `resume=required`.

    Raises:
        ResumeError: always then.
    """
    if config.resume is Resume.required:
        raise ResumeError([_nothing_to_resume(folder)])


def check_ranks_agree(fingerprints: Sequence[object]) -> None:
    """Compares the identity of the data on all ranks.

    Raises:
        ConfigError: a rank sees other data than rank 0, say of another file system.
    """
    faults = [
        Fault(
            path="task",
            value=f"{theirs} on rank {rank}",
            rule=f"rank 0 has {fingerprints[0]}, and all ranks must read the same data",
            remedy="name the files by a URL or path that all nodes share",
        )
        for rank, theirs in enumerate(fingerprints)
        if theirs != fingerprints[0]
    ]
    if faults:
        raise ConfigError(faults)


def check_data(recorded: dict[str, str], found: dict[str, str]) -> None:
    """Compares the identity of the data with what the checkpoint was trained on.

    Raises:
        ResumeError: a data set changed in size or identity.
    """
    faults = [
        Fault(
            path="task",
            value=f"{part} data of {found.get(part, 'nothing')}",
            rule=f"the checkpoint was trained on {recorded.get(part, 'nothing')}",
            remedy="bring the data back, or start anew under another name=",
        )
        for part in sorted(recorded.keys() | found.keys())
        if recorded.get(part) != found.get(part)
    ]
    if faults:
        raise ResumeError(faults)

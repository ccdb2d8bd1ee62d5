"""A rank has the callbacks that its configuration names, in call order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distributed import run_distributed
from trainer.callbacks import Callback, StepReport
from trainer.config import TrainConfig, load_config
from trainer.distributed import Distributed
from trainer.errors import ConfigError
from trainer.logging.progress import Snapshot
from trainer.logging.sinks import build_callbacks
from trainer.run_folder import RunFolder

EVERYTHING = (
    "logging.samples=true",
    "logging.tensorboard=true",
    f"callbacks.mine._target_={__name__}.Mine",
    "callbacks.mine.number=3",
)


class Mine(Callback):
    def __init__(self, number: int) -> None:
        self.number = number


def ignore(snapshot: Snapshot) -> None: ...


def names_of(storage: Path, *words: str, is_shown: bool = True) -> list[str]:
    """Returns the classes of this rank's callbacks, after one step."""
    config: TrainConfig = load_config(
        ["experiment=digits", f"storage_url={storage}", "name=mine", *words]
    )
    distributed = Distributed(use_gpu=False)
    callbacks = build_callbacks(
        config,
        RunFolder(config.storage_url, "mine", {}),
        distributed,
        show=ignore if is_shown else None,
        step=0,
        epoch_size=10,
    )
    first = 2 * distributed.rank
    report = StepReport(
        step=1, epoch=0, samples=4, indices=[first, first + 1], metrics={"loss": 0.5}
    )
    for callback in callbacks:
        callback.on_step_end(report)
    for callback in callbacks:
        callback.close()
    distributed.close()
    return [type(callback).__name__ for callback in callbacks]


def run_everything(storage: Path) -> list[str]:
    return names_of(storage, *EVERYTHING)


def test_metrics_are_always_written(tmp_path: Path) -> None:
    assert names_of(tmp_path, is_shown=False) == ["MetricsFile"]
    assert names_of(tmp_path) == ["MetricsFile", "ProgressFeed"]


def test_sinks_are_on_rank_0_and_the_users_callbacks_on_every_rank(
    tmp_path: Path,
) -> None:
    zero, one = run_distributed(run_everything, 2, tmp_path)
    assert zero == [
        "SamplesFile",
        "MetricsFile",
        "TensorBoardSink",
        "ProgressFeed",
        "Mine",
    ]
    assert one == ["SamplesFile", "Mine"]
    written = {path.name for path in (tmp_path / "mine").iterdir()}
    assert written == {"metrics.jsonl", "samples.jsonl", "tensorboard"}
    samples = (tmp_path / "mine" / "samples.jsonl").read_text()
    assert json.loads(samples) == {"step": 1, "indices": [0, 1, 2, 3]}


def test_mlflow_is_told_where_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    words = ["logging.mlflow=true", f"logging.mlflow_tracking_uri='{uri}'"]
    found = names_of(tmp_path, *words)
    assert found == ["MetricsFile", "MlflowSink", "ProgressFeed"]


def test_a_callback_with_a_wrong_argument_is_named(tmp_path: Path) -> None:
    words = [f"callbacks.mine._target_={__name__}.Mine", "callbacks.mine.numbr=3"]
    with pytest.raises(ConfigError, match=r"callbacks\.mine"):
        names_of(tmp_path, *words)

"""The parts of a rank are built from its configuration, equal on every rank."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from trainer.build import build, check_metric, last_step, num_threads
from trainer.config import DurationConfig, TrainConfig, load_config
from trainer.distributed import Distributed
from trainer.errors import ConfigError, Fault
from trainer.result import model_digest


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2}, 20),  # 2 * 103 samples are 20 steps of 10 and 6 samples
        ({"max_epochs": 3}, 30),  # 309 samples
        ({"max_epochs": 10}, 103),
        ({"max_samples": 99}, 9),
        ({"max_samples": 100}, 10),
        ({"max_steps": 50, "max_epochs": 2, "max_samples": 150}, 15),
        ({"max_steps": 5, "max_epochs": 2}, 5),
        ({"max_time_s": 60.0}, None),
        ({"max_time_s": 60.0, "max_steps": 4}, 4),
    ],
)
def test_the_first_limit_ends_a_run_with_a_whole_step(
    duration: dict[str, Any], expected: int | None
) -> None:
    assert last_step(DurationConfig(**duration), 103, 10) == expected


def test_every_limit_that_is_too_short_is_a_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        last_step(DurationConfig(max_epochs=1, max_samples=9), 7, 10)
    paths = [fault.path for fault in caught.value.faults]
    assert paths == ["duration.max_epochs", "duration.max_samples"]


@pytest.mark.parametrize(
    ("duration", "num_samples", "path", "size"),
    [
        ({"max_samples": 9}, 103, "duration.max_samples", 9),
        ({"max_epochs": 1}, 7, "duration.max_epochs", 7),
    ],
)
def test_a_run_shorter_than_a_step_is_refused(
    duration: dict[str, Any], num_samples: int, path: str, size: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        last_step(DurationConfig(**duration), num_samples, 10)
    [fault] = caught.value.faults
    assert fault.path == path
    assert fault.rule == (
        f"is less than one step of 10 samples; the data has {num_samples}"
    )
    assert f"batch.global_size={size} " in fault.remedy
    assert last_step(DurationConfig(**duration), num_samples, size) == 1


def metric_fault(metric: str, names: list[str]) -> Fault:
    config = load_config(["experiment=digits", "checkpoint.metric=eval/loss"])
    config.checkpoint.metric = metric
    with pytest.raises(ConfigError) as caught:
        check_metric(config, names)
    [fault] = caught.value.faults
    return fault


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    names = ["eval/loss", "eval/accuracy"]
    fault = metric_fault("eval/acuracy", names)
    assert str(fault) == (
        "checkpoint.metric=eval/acuracy: evaluation gives eval/loss, eval/accuracy; "
        "checkpoint.metric=eval/accuracy"
    )
    assert metric_fault("train/x", []).remedy == "checkpoint.metric=null"


def test_a_known_metric_and_none_are_accepted() -> None:
    config = load_config(["experiment=digits", "checkpoint.metric=eval/loss"])
    check_metric(config, ["eval/loss"])
    config.checkpoint.metric = None
    check_metric(config, [])


def digits(*words: str) -> TrainConfig:
    small = ["task.width=4", "batch.global_size=30", "duration.max_steps=2"]
    return load_config(["experiment=digits", *small, *words])


def test_the_same_seed_builds_the_same_model_and_another_one_another() -> None:
    distributed = Distributed(use_gpu=False)
    torch.manual_seed(1)
    first = build(digits("seed=3"), distributed)
    torch.manual_seed(2)
    digests = {
        model_digest(build(digits(word), distributed).strategy.model_state())
        for word in ("seed=3", "seed=3", "seed=4")
    }
    assert len(digests) == 2
    assert model_digest(first.strategy.model_state()) in digests


def test_a_rank_has_its_share_its_end_and_the_identity_of_the_data() -> None:
    built = build(digits("batch.micro_size=15"), Distributed(use_gpu=False))
    assert [part.size for part in built.share] == [15, 15]
    assert built.last_step == 2
    assert set(built.fingerprints) == {"train", "eval"}
    assert built.fingerprints["train"].startswith(f"{len(built.data.train)} samples")


def test_the_optimizer_is_the_one_that_was_chosen() -> None:
    config = digits("optimizer=sgd", "optimizer.lr=0.25")
    optimizer = build(config, Distributed(use_gpu=False)).strategy.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]


def test_a_target_that_is_no_task_is_refused() -> None:
    config = digits()
    config.task = {"_target_": "collections.OrderedDict"}
    with pytest.raises(ConfigError, match=r"subclass of trainer\.TrainTask"):
        build(config, Distributed(use_gpu=False))


def test_a_metric_that_the_task_does_not_give_is_refused_before_its_data_is_built() -> (
    None
):
    config = digits()
    config.checkpoint.metric = "eval/lost"
    with pytest.raises(ConfigError, match=r"checkpoint\.metric=eval/loss"):
        build(config, Distributed(use_gpu=False))


def test_threads_are_configured_from_the_environment_or_a_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = Distributed(use_gpu=False)
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert num_threads(digits(), distributed) == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert num_threads(digits(), distributed) == cores
    assert num_threads(digits("scaling.threads_per_worker=3"), distributed) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * cores))
    assert num_threads(digits(), distributed) == 1

"""What a run does, by training small ones in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import CheckpointManager
from tests.distributed import run_distributed
from tests.trainer.tasks_for_tests import Regression, Witness
from trainer import ConfigError, TrainResult, WorkerFailed, load_config, train

pytestmark = pytest.mark.usefixtures("workspace")

TASKS = "tests.trainer.tasks_for_tests"
BASE = (
    f"task._target_={TASKS}.Regression",
    "batch.global_size=16",
    "logging=quiet",
    "optimizer.lr=1e-2",
    "name=run",
    "scaling.threads_per_worker=1",
)


def fit(*words: str) -> TrainResult:
    return train(load_config([*BASE, *words]))


def lines(split: str, name: str = "run") -> list[dict[str, Any]]:
    text = Path("runs", name, "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if line["split"] == split]


def saved_steps(name: str = "run") -> list[int]:
    return [info.step for info in CheckpointManager(f"runs/{name}").infos()]


def digests(pieces: Sequence[Sequence[str]], *words: str) -> tuple[str | None, ...]:
    """Trains a whole run, and one that is stopped and continued; gives both digests."""
    whole = fit(*words, "name=whole").model_digest
    for piece in pieces:
        found = fit(*words, "name=pieces", "resume_allow=[duration]", *piece)
    return whole, found.model_digest


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer=sgd"],
        ["optimizer=adam", "batch.micro_size=4", "clip_grad_norm=0.1"],
        ["precision=bf16"],
        ["precision=fp16"],
        ["activation_checkpointing=[Linear]"],
        ["lr_schedule=linear", "lr_schedule.decay_steps=12"],
    ],
)
def test_a_resumed_run_has_the_weights_of_a_whole_one(words: list[str]) -> None:
    whole, pieces = digests(
        [["duration.max_steps=5"], ["duration.max_steps=12"]],
        "duration.max_steps=12",
        *words,
    )
    assert whole == pieces is not None


def test_seeds_make_different_weights() -> None:
    results = [fit("duration.max_steps=1", f"seed={s}", f"name={s}") for s in (0, 1)]
    assert results[0].model_digest != results[1].model_digest


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (["duration.max_steps=7"], 7),
        (["duration.max_epochs=2"], 12),
        (["duration.max_samples=50"], 3),
        (["duration.max_epochs=2", "duration.max_steps=5"], 5),
        (["duration.max_time_s=0.001"], 1),
    ],
)
def test_the_shortest_duration_ends_a_run(words: list[str], step: int) -> None:
    result = fit(*words)
    assert (result.status, result.step) == ("completed", step)
    assert result.samples_seen == step * 16


def test_an_epoch_sees_every_sample_once() -> None:
    Witness.steps.clear()
    Witness.indices.clear()
    fit("duration.max_epochs=2", f"callbacks.witness._target_={TASKS}.Witness")
    assert Witness.steps == list(range(1, 13))
    assert sorted(Witness.indices[:96]) == sorted(Witness.indices[96:])
    assert sorted(Witness.indices[:96]) == list(range(96))


def test_the_learning_rate_follows_the_schedule() -> None:
    fit(
        "duration.max_steps=6",
        "logging.every_steps=1",
        "lr_schedule=linear",
        "lr_schedule.warmup_steps=2",
    )
    rates = [line["lr"] for line in lines("train")]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025])


def test_evaluation_comes_when_due_and_once_at_the_end() -> None:
    fit("duration.max_steps=7", "evaluation.every_steps=3")
    assert [line["step"] for line in lines("eval")] == [3, 6, 7]
    fit("duration.max_steps=6", "evaluation.every_steps=3", "name=even")
    assert [line["step"] for line in lines("eval", "even")] == [3, 6]


def test_the_last_checkpoint_knows_the_last_evaluation() -> None:
    # The last step is one to save at, but not one to evaluate at.
    fit("duration.max_steps=4", "checkpoint.every_steps=2", "name=run")
    newest = CheckpointManager("runs/run").infos()[-1]
    assert newest.metrics == {
        f"eval/{name}": lines("eval")[-1][name] for name in ("loss", "mean_target")
    }


def test_without_held_out_data_nothing_is_evaluated() -> None:
    result = fit("duration.max_steps=2", "task.num_eval=0")
    assert list(result.metrics) == []
    assert lines("eval") == []


def test_early_stopping_ends_a_run_that_gets_worse() -> None:
    result = fit(
        f"task._target_={TASKS}.Worsening",
        "duration.max_steps=50",
        "evaluation.every_steps=2",
        "checkpoint.metric=eval/loss",
        "early_stopping.patience=3",
    )
    assert (result.status, result.step) == ("completed", 8)
    assert result.best == {"step": 2, "metric": "eval/loss", "value": 1.0}
    # The best and the newest stay, although no save was due at the best.
    assert saved_steps() == [2, 8]


def test_checkpoints_come_by_steps_and_the_newest_stay() -> None:
    fit("duration.max_steps=9", "checkpoint.every_steps=2", "checkpoint.keep_latest=3")
    assert saved_steps() == [6, 8, 9]


def test_checkpoints_come_by_time() -> None:
    words = ["checkpoint.every_steps=null", "checkpoint.every_s=1e-9"]
    fit("duration.max_steps=4", "checkpoint.keep_latest=9", *words)
    assert saved_steps() == [1, 2, 3, 4]


def test_a_damaged_checkpoint_is_passed_over() -> None:
    words = ["checkpoint.every_steps=2"]
    fit("duration.max_steps=4", *words)
    whole = fit("duration.max_steps=8", "name=whole", *words)
    [data] = Path("runs/run/checkpoints/step-00000004").glob("*.bin")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    found = fit("duration.max_steps=8", "resume_allow=[duration]", *words)
    assert found.model_digest == whole.model_digest
    events = Path("runs/run/events.jsonl").read_text().splitlines()
    restored = [e for e in map(json.loads, events) if e["event"] == "restored"]
    assert [e["step"] for e in restored] == [2]


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(WorkerFailed, match=r"shape \(16, 1\): it must be a scalar"):
        fit("duration.max_steps=2", "task.scalar=false")


def test_an_unknown_metric_is_refused_before_the_first_step() -> None:
    with pytest.raises(ConfigError) as caught:
        fit("checkpoint.metric=eval/los", "duration.max_steps=2")
    [fault] = caught.value.faults
    assert "checkpoint.metric=eval/loss" in fault.remedy
    assert not Path("runs/run/metrics.jsonl").exists()
    # Nothing was trained, so the mended words may go into the same folder.
    assert fit("checkpoint.metric=eval/loss", "duration.max_steps=2").step == 2


def _train_as_rank(words: list[str]) -> TrainResult:
    return train(load_config([*BASE, *words]))


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_evaluation_is_exact_on_any_number_of_ranks(world_size: int) -> None:
    words = ["duration.max_steps=1", "evaluation.micro_size=5", "batch.micro_size=2"]
    words += ["optimizer.lr=1e-30", "batch.global_size=12"]
    alone = fit(*words, "name=alone").metrics
    ranks = run_distributed(_train_as_rank, world_size, [*words, "name=ranks"])
    assert all(result == ranks[0] for result in ranks)
    data = Regression().build_datasets().eval
    assert data is not None
    expected = torch.stack([data[i][1] for i in range(len(data))]).double().mean()
    for metrics in (alone, ranks[0].metrics):
        found = metrics["eval/mean_target"]
        assert found == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.slow
def test_ranks_train_as_one_process_does() -> None:
    words = ["duration.max_steps=10", "batch.micro_size=4", "logging.every_steps=1"]
    fit(*words, "name=alone")
    run_distributed(_train_as_rank, 2, [*words, "name=ranks"])
    losses = [
        [line["loss"] for line in lines("train", name)] for name in ("alone", "ranks")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
def test_a_compiled_model_trains_and_resumes() -> None:
    whole, pieces = digests(
        [["duration.max_steps=3"], ["duration.max_steps=6"]],
        "duration.max_steps=6",
        "compile=true",
    )
    assert whole == pieces is not None

"""MLflow gets every metric of a run in one MLflow run, over all restarts.

On a store of local files: the light MLflow that the tests install has no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from trainer.callbacks import StepReport
from trainer.logging.mlflow import MlflowSink
from trainer.result import Status, TrainResult

URL = "/runs/mine"


@dataclass(frozen=True, slots=True)
class Server:
    """A store of local files."""

    uri: str

    def sink(self, run_url: str = URL) -> MlflowSink:
        config = {"seed": 3, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
        return MlflowSink("mine", run_url, tracking_uri=self.uri, config=config)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return Server((tmp_path / "mlruns").as_uri())


def report(step: int) -> StepReport:
    return StepReport(
        step=step, epoch=0, samples=step, indices=[], metrics={"loss": 1.0 / step}
    )


def result(status: Status) -> TrainResult:
    return TrainResult(
        status=status,
        name="mine",
        run_url=URL,
        step=2,
        samples_seen=2,
        metrics={},
        best=None,
        model_digest=None,
        checkpoint_url=None,
        wall_time_s=1.0,
        num_restarts=0,
        num_preemptions=0,
        steps_lost=0,
        ledger={},
    )


def runs(server: Server) -> list[Any]:
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("perennial")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def points(server: Server, name: str) -> list[tuple[int, float]]:
    [run] = runs(server)
    history = MlflowClient(tracking_uri=server.uri).get_metric_history(
        run.info.run_id, name
    )
    return [(metric.step, metric.value) for metric in history]


def test_metrics_are_logged_by_split_and_step(server: Server) -> None:
    sink = server.sink()
    sink.on_step_end(report(1))
    sink.on_step_end(report(2))
    sink.on_evaluation(2, 2, {"eval/loss": 0.25})
    assert points(server, "train/loss") == [(1, 1.0), (2, 0.5)]
    assert points(server, "eval/loss") == [(2, 0.25)]


def test_the_configuration_is_logged_by_dotted_path(server: Server) -> None:
    server.sink()
    [run] = runs(server)
    assert run.info.run_name == "mine"
    assert run.data.params == {
        "seed": "3",
        "optimizer._target_": "torch.optim.SGD",
        "optimizer.lr": "0.1",
    }


def test_a_run_that_continues_goes_on_in_its_own(server: Server) -> None:
    first = server.sink()
    first.on_step_end(report(1))
    first.on_fit_end(result(Status.PREEMPTED))
    assert [run.info.status for run in runs(server)] == ["KILLED"]
    again = server.sink()
    assert [run.info.status for run in runs(server)] == ["RUNNING"]
    again.on_step_end(report(2))
    again.on_fit_end(result(Status.COMPLETED))
    assert [run.info.status for run in runs(server)] == ["FINISHED"]
    assert points(server, "train/loss") == [(1, 1.0), (2, 0.5)]


def test_another_run_has_its_own(server: Server) -> None:
    server.sink()
    server.sink("/runs/other")
    assert len(runs(server)) == 2

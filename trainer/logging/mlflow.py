"""Metrics to an MLflow tracking server; needs the extra `mlflow`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from trainer.callbacks import Callback, StepReport
from trainer.result import TrainResult

_EXPERIMENT = "perennial"
_TAG = "perennial.run_url"


class MlflowSink(Callback):
    """Logs metrics under the run's name; on rank 0.

    A run that continues finds its MLflow run by the tag of its URL.

    Args:
        run_name: the run's name.
        run_url: the run's folder.
        tracking_uri: MLflow's; None for its own default.
        config: resolved configuration, logged as parameters, without secrets.
    """

    def __init__(
        self,
        run_name: str,
        run_url: str,
        *,
        tracking_uri: str | None,
        config: Mapping[str, Any],
    ) -> None:
        self._client = MlflowClient(tracking_uri=tracking_uri)
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(_EXPERIMENT)
        )
        earlier = self._client.search_runs(
            [experiment], filter_string=f"tags.`{_TAG}` = '{run_url}'", max_results=1
        )
        if earlier:
            self._run_id = earlier[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        run = self._client.create_run(
            experiment, run_name=run_name, tags={_TAG: run_url}
        )
        self._run_id = run.info.run_id
        for name, value in _flatten(config).items():
            self._client.log_param(self._run_id, name, value)

    def on_step_end(self, report: StepReport) -> None:
        if report.metrics is not None:
            names = {f"train/{k}": v for k, v in report.metrics.items()}
            self._log(names, report.step)

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        self._log(metrics, step)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        now_ms = int(time.time() * 1000)
        entries = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=entries)

    def on_fit_end(self, result: TrainResult) -> None:
        status = "FINISHED" if result.status == "completed" else "KILLED"
        self._client.set_terminated(self._run_id, status=status)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""The callbacks of a rank, in call order: those of the configuration, the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from trainer.callbacks import Callback
from trainer.config import TrainConfig, instantiate, to_dict
from trainer.distributed import Distributed
from trainer.errors import ConfigError, Fault
from trainer.logging.jsonl import MetricsFile, SamplesFile
from trainer.logging.progress import ProgressFeed, Snapshot
from trainer.run_folder import RunFolder


def build_callbacks(
    config: TrainConfig,
    folder: RunFolder,
    distributed: Distributed,
    *,
    show: Callable[[Snapshot], None] | None,
    step: int,
    epoch_size: int,
) -> list[Callback]:
    """Builds a rank's callbacks; sinks are on rank 0 alone. Every rank calls this.

    Args:
        config: says which there are.
        folder: the run's folder.
        distributed: the ranks.
        show: takes progress for the console; None for none.
        step: where the run continues.
        epoch_size: training samples in an epoch.
    """
    callbacks: list[Callback] = []
    try:
        if config.logging.samples:
            samples = SamplesFile(folder.storage, step=step, distributed=distributed)
            callbacks.append(samples)
        if distributed.is_rank_zero:
            metrics = MetricsFile(folder.storage, step=step, epoch_size=epoch_size)
            callbacks.append(metrics)
            callbacks.extend(_optional_sinks(config, folder, step))
            if show is not None:
                callbacks.append(ProgressFeed(show))
        for name, node in config.callbacks.items():
            own = instantiate(node, path=f"callbacks.{name}")
            callbacks.append(cast(Callback, own))
    except BaseException:
        for callback in callbacks:
            callback.close()
        raise
    return callbacks


def _optional_sinks(
    config: TrainConfig, folder: RunFolder, step: int
) -> Iterator[Callback]:
    if config.logging.tensorboard:
        from trainer.logging.tensorboard import TensorBoardSink

        assert folder.local_dir is not None, "a rule of the configuration"
        yield TensorBoardSink(folder.local_dir / "tensorboard", step=step)
    if config.logging.mlflow:
        try:
            from trainer.logging.mlflow import MlflowSink
        except ModuleNotFoundError as error:
            raise ConfigError([_MISSING_MLFLOW]) from error
        yield MlflowSink(
            folder.name,
            folder.url,
            tracking_uri=config.logging.mlflow_tracking_uri,
            config=to_dict(config),
        )


_MISSING_MLFLOW = Fault(
    path="logging.mlflow",
    value=True,
    rule="needs the package mlflow",
    remedy="pip install 'perennial[mlflow]', or type logging.mlflow=false",
)

"""TensorBoard shows every logged value once, also after a kill and a resume."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog

from trainer.callbacks import StepReport
from trainer.logging.tensorboard import TensorBoardSink

REPOSITORY = Path(__file__).parents[3]

Scalars = dict[str, list[tuple[int, float]]]  # tag -> (step, value)


def report(step: int, loss: float | None) -> StepReport:
    return StepReport(
        step=step,
        epoch=0,
        samples=step,
        indices=[],
        metrics=None if loss is None else {"loss": loss},
    )


def events(log_dir: Path) -> Iterator[Event]:
    """Reads event files as TensorBoard does: by name, records of the TFRecord format.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    for file in sorted(log_dir.iterdir()):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack_from("<Q", data)
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def scalars(log_dir: Path) -> Scalars:
    """Returns what TensorBoard shows: a start drops what was logged from its step on.

    https://github.com/tensorflow/tensorboard `_MaybePurgeOrphanedData`
    """
    shown: Scalars = {}
    for event in events(log_dir):
        if event.session_log.status == SessionLog.START:
            shown = {
                tag: [point for point in points if point[0] < event.step]
                for tag, points in shown.items()
            }
        for value in event.summary.value:
            points = shown.setdefault(value.tag, [])
            points.append((event.step, value.simple_value))
    return shown


# Logs five steps, makes three durable, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.trainer.logging.test_tensorboard import report
from trainer.logging.tensorboard import TensorBoardSink
sink = TensorBoardSink(Path(sys.argv[1]), step=0)
for step in range(1, 6):
    sink.on_step_end(report(step, loss=1.0 / step))
    if step == 3:
        sink.on_evaluation(3, 3, {"eval/accuracy": 0.5})
    if step == 5:
        sink.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_values_are_written_by_split_and_step(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path, step=0)
    sink.on_step_end(report(1, None))
    sink.on_step_end(report(2, 0.5))
    sink.on_evaluation(2, 2, {"eval/loss": 0.25, "eval/accuracy": 0.75})
    sink.flush()
    expected = {
        "train/loss": [(2, 0.5)],
        "eval/loss": [(2, 0.25)],
        "eval/accuracy": [(2, 0.75)],
    }
    assert scalars(tmp_path) == expected  # a flush is enough to read them
    sink.close()
    assert scalars(tmp_path) == expected


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, check=False
    )
    assert killed.returncode == -9
    before = scalars(tmp_path)["train/loss"]
    assert [step for step, _ in before] == [1, 2, 3, 4, 5]
    sink = TensorBoardSink(tmp_path, step=3)
    for step in range(4, 7):
        sink.on_step_end(report(step, 2.0))
    sink.close()
    found = scalars(tmp_path)
    assert found["train/loss"] == [*before[:3], (4, 2.0), (5, 2.0), (6, 2.0)]
    assert found["eval/accuracy"] == [(3, 0.5)]

from __future__ import annotations

import pickle

import pytest

from checkpoints import (
    CheckpointError,
    Corrupt,
    Incomplete,
    Mismatch,
    NotFound,
    StorageError,
)

TREE = [NotFound, Incomplete, Corrupt, Mismatch, StorageError]


@pytest.mark.parametrize("kind", [CheckpointError, *TREE])
def test_every_error_survives_pickling(kind: type[CheckpointError]) -> None:
    again = pickle.loads(pickle.dumps(kind("step=3: rule; remedy")))
    assert type(again) is kind
    assert str(again) == "step=3: rule; remedy"


@pytest.mark.parametrize("kind", TREE)
def test_every_error_hangs_directly_below_the_base(kind: type[Exception]) -> None:
    assert kind.__bases__ == (CheckpointError,)

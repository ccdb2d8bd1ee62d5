"""What the tests of the configuration share: the faults of words, as one reads them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trainer.config import load_config
from trainer.errors import ConfigError, Fault


def faults_of(*words: str, config_dirs: Sequence[str] = ()) -> tuple[Fault, ...]:
    """Returns the faults that these words have; fails when they have none."""
    with pytest.raises(ConfigError) as caught:
        load_config(words, config_dirs=config_dirs)
    return caught.value.faults


def only_fault(*words: str, config_dirs: Sequence[str] = ()) -> Fault:
    """Returns the one fault that these words have."""
    (fault,) = faults_of(*words, config_dirs=config_dirs)
    return fault

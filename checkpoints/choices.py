"""The choices a caller has, and the rules of arguments. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class Mode(StrEnum):
    """Whether a smaller or a larger metric is better."""

    MIN = "min"
    MAX = "max"


class Verify(StrEnum):
    """How much of a checkpoint is checked before it is trusted."""

    FULL = "full"  # sizes and every checksum
    SIZES = "sizes"  # sizes only


def choose(name: str, value: str, choices: type[_Choice]) -> _Choice:
    """Returns the choice that a value names.

    Raises:
        ValueError: It names none.
    """
    for choice in choices:
        if value == choice.value:
            return choice
    valid = [choice.value for choice in choices]
    raise ValueError(f"{name}={value!r}: must be one of {valid}; pass {valid[0]!r}")


def require_at_least(name: str, value: object, least: int, reason: str) -> None:
    """Refuses a number below its least.

    Raises:
        ValueError: It is lower, or no number.
    """
    # Not `value < least`: a NaN must not pass.
    if not (isinstance(value, int | float) and value >= least):
        raise ValueError(
            f"{name}={value!r}: must be >= {least}, because {reason}; "
            f"set {name}={least} or more"
        )

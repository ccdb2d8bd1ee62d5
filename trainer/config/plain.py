"""A configuration as plain, JSON-able data, and what differs between two of them.

What leaves here may be written beside a run: it holds no secret. Knows nothing of
words, files or rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from trainer.config.redaction import redact_value
from trainer.config.schema import TrainConfig

#: Paths that never refuse a resume: they change where, how fast and how safely a run
#: is computed, never what. A path allows everything below it.
RESUME_MAY_CHANGE = (
    "checkpoint.every_s",
    "checkpoint.every_steps",
    "checkpoint.keep_best",
    "checkpoint.keep_latest",
    "checkpoint.verify",
    "experiment",
    "loader",
    "logging",
    "name",
    "recovery",
    "resume",
    "resume_allow",
    "scaling",
    "storage_options",
    "storage_url",
    "strategy",
)

ABSENT = "(absent)"  # stands in a difference for a path that one side does not have


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Returns the configuration as JSON-able data, secrets as ``***``.

    The words (`overrides`) are not part of it; `redact_words` is for them.
    """
    return {
        field.name: redact_value(field.name, plain_value(getattr(config, field.name)))
        for field in fields(config)
        if field.name != "overrides"
    }


def plain_value(value: Any) -> Any:
    """Returns `value` with dataclasses as dictionaries, enums and tuples plain."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def difference(
    old: dict[str, Any], new: dict[str, Any]
) -> list[tuple[str, object, object]]:
    """Returns (path, old, new) of every leaf that differs, in the order of `new`.

    Args:
        old: a configuration as `to_dict` gives it, perhaps read back from a file.
        new: another one.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changed = []
    for path in [*after, *(path for path in before if path not in after)]:
        pair = before.get(path, ABSENT), after.get(path, ABSENT)
        if pair[0] != pair[1]:
            changed.append((path, *pair))
    return changed


def is_allowed_to_change(path: str, resume_allow: Sequence[str]) -> bool:
    """Says whether a run may resume although the value at `path` has changed.

    Args:
        path: dotted path of a leaf, as `difference` gives it.
        resume_allow: the user's own paths; each allows everything below it too.
    """
    allowed = (*RESUME_MAY_CHANGE, *resume_allow)
    return any(path == top or path.startswith(f"{top}.") for top in allowed)


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields every path with its value; an empty dictionary is a leaf."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

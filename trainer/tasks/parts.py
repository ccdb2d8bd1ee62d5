"""The words that ready-made data sets share: which part, and the names of a pair.

Owns the checking of these arguments only.
"""

from __future__ import annotations

from collections.abc import Sequence

PARTS = ("train", "eval")


def check_part(part: str) -> None:
    """Returns when `part` is `train` or `eval`, and raises ValueError if not."""
    if part not in PARTS:
        nearest = "train" if part.startswith("tr") else "eval"
        raise ValueError(f"part={part}: must be train or eval; set part={nearest}")


def pair_of_names(names: Sequence[str] | None) -> tuple[str, str] | None:
    """Returns the keys of (input, target), or None; raises ValueError if not two."""
    if names is None:
        return None
    if isinstance(names, str) or len(names) != 2 or names[0] == names[1]:
        raise ValueError(
            f"names={names}: must be two different keys, of the input and of the "
            "target; set for example names=[pixel_values,labels]"
        )
    return names[0], names[1]

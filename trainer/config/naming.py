"""Finds what a misspelt name was meant to be, and says which names are valid.

Knows strings only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 20


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Returns the valid name that is most like `name`, or None when none is."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def listed(valid: Iterable[str]) -> str:
    """Returns the names in a sentence, cut short when there are very many."""
    names = list(valid)
    if len(names) > 2 * _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return ", ".join(names)

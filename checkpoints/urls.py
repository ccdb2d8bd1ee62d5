"""What may be shown of a storage address: URLs without credentials, scrubbed texts.

Owns the rule of what counts as a secret. Must never open anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*(::|://)")
_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_QUERY_VALUE = re.compile(r"(?<==)[^&#]+")
# Options whose values help to mend a fault and are no secret; all others may be one.
_HARMLESS_OPTIONS = frozenset(
    {"endpoint_url", "region_name", "profile", "signature_version", "addressing_style"}
)
_SHORTEST_SECRET = 4  # replacing shorter texts would only mutilate the message


def local_path(url: str | os.PathLike[str]) -> Path | None:
    """Returns the absolute path that a URL or path names, None if it is not local."""
    text = os.fspath(url)
    for scheme in ("file://", "local://"):
        text = text.removeprefix(scheme)
    if _URL.match(text):
        return None
    return Path(os.path.abspath(os.path.expanduser(text)))


def public_url(url: str) -> str:
    """Returns the URL without user, password and the values of its query."""
    address, mark, query = _USERINFO.sub("", url).partition("?")
    return address + mark + _QUERY_VALUE.sub("***", query)


def secrets_in(url: str, options: Mapping[str, object]) -> frozenset[str]:
    """Returns the texts of a URL and its options that no message may contain."""
    found: set[str] = set()
    _collect_user(url, found)
    found.update(_QUERY_VALUE.findall(url.partition("?")[2]))
    _collect(options, found)
    found.update({unquote(text) for text in found})
    return frozenset(text for text in found if len(text) >= _SHORTEST_SECRET)


def scrub(text: str, secrets: frozenset[str]) -> str:
    """Returns the text with every secret and every URL's user replaced by `***`."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USERINFO.sub("", text)


def _collect_user(url: str, found: set[str]) -> None:
    for userinfo in _USERINFO.findall(url):
        found.update({userinfo[:-1], *userinfo[:-1].split(":", 1)})


def _collect(value: object, found: set[str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in _HARMLESS_OPTIONS and isinstance(item, str):
                _collect_user(item, found)
            else:
                _collect(item, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _collect(item, found)
    elif isinstance(value, bytes):
        found.add(value.decode(errors="replace"))
    elif isinstance(value, str):
        found.add(value)

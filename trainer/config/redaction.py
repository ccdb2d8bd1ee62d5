"""Takes secrets out of values before they are written, logged or shown.

Knows names of keys and the shape of URLs only. A key below ``storage_options`` or
``files_options`` is a secret unless it is known not to be; elsewhere a key is one when
its name says so. A URL loses its user and password wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"

_OPTIONS = {"storage_options", "files_options"}
# What these hold helps to find a fault and opens no door. Dictionaries among the
# options (client_kwargs, config_kwargs) are looked into, key by key.
_HARMLESS = {
    "addressing_style",
    "anon",
    "asynchronous",
    "auto_mkdir",
    "cache_regions",
    "connect_timeout",
    "default_block_size",
    "default_cache_type",
    "default_fill_cache",
    "endpoint_url",
    "host",
    "max_attempts",
    "max_concurrency",
    "max_pool_connections",
    "port",
    "project",
    "protocol",
    "read_timeout",
    "region_name",
    "request_checksum_calculation",
    "requester_pays",
    "response_checksum_validation",
    "signature_version",
    "skip_instance_cache",
    "use_listings_cache",
    "use_ssl",
    "verify",
    "version_aware",
}
_SECRET_NAME = re.compile(
    r"(^|_)(passwords?|passwd|secrets?|secret_key|api_?key|access_key|private_key"
    r"|(api|auth|access|bearer|hf)_?token|credentials?)(_id)?$",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]+@")
_KEY_IN_TEXT = re.compile(r"(\w+)['\"]?\s*:")
_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+\}")


def redact_value(path: str, value: object) -> object:
    """Returns `value` without what must stay secret at this dotted path.

    Args:
        path: where the value stands, for example ``storage_options.key``.
        value: a scalar, or dictionaries and lists of them.
    """
    if isinstance(value, dict):
        return {key: redact_value(f"{path}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(path, item) for item in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _is_secret(path):
        return value if _names_a_variable(value) else HIDDEN
    if isinstance(value, str):
        return _USER_IN_URL.sub(rf"\g<scheme>{HIDDEN}@", value)
    return value


def redact_words(words: Iterable[str]) -> list[str]:
    """Returns the words as typed, with *** in the place of secrets."""
    redacted = []
    for word in words:
        key, equals, text = word.partition("=")
        path = key.lstrip("+~").partition("@")[0]
        # A dictionary or list in one word is not taken apart: it is hidden as a whole.
        if text.startswith(("{", "[")) and _holds_secret(path, text):
            redacted.append(f"{key}={HIDDEN}")
        else:
            redacted.append(f"{key}{equals}{redact_value(path, text)}")
    return redacted


def _is_secret(path: str) -> bool:
    parts = _parts(path)
    if _OPTIONS & set(parts):
        return parts[-1] not in _HARMLESS
    return _SECRET_NAME.search(parts[-1]) is not None


def _holds_secret(path: str, text: str) -> bool:
    names = _KEY_IN_TEXT.findall(text)
    return any(_is_secret(f"{path}.{name}") or name in _OPTIONS for name in names)


def _parts(path: str) -> list[str]:
    return path.replace("[", ".").replace("]", "").split(".")


def _names_a_variable(value: object) -> bool:
    return isinstance(value, str) and _FROM_ENVIRONMENT.fullmatch(value) is not None

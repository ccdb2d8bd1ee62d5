"""Turns the errors of file systems and storage clients into ours, once.

Owns the wording of storage faults and the question whether one is worth another try.
Must never import a vendor: clients are told apart by the codes that they carry.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from checkpoints.errors import StorageError
from checkpoints.urls import scrub

# Object stores answer these when they are busy or broken for a moment. A conflict is
# two conditional writes at the same time: the next try gets a definite answer.
_TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
        "500",
        "502",
        "503",
        "504",
    }
)
_TRANSIENT_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EREMOTEIO}
)
_REFUSED_CODES = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)
_REMEDIES = {
    "bucket": "the bucket must exist; create it or correct the URL",
    "refused": "the credentials must allow this; correct the storage options or ask "
    "the owner for the permission",
    "full": "the storage must have room; free some or choose another URL",
    "unreachable": "the storage must answer; check endpoint_url and the network",
    "other": "the storage must answer without an error; correct the cause named here",
}


def error_code(error: BaseException) -> str | None:
    """Returns the code that a storage server answered with, if there is one."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            code = response.get("Error", {}).get("Code")
            return None if code is None else str(code)
    return None


def is_transient(error: BaseException) -> bool:
    """Returns whether the same call may succeed a moment later."""
    if error_code(error) in _TRANSIENT_CODES:
        return True
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def is_taken(error: BaseException) -> bool:
    """Returns whether an exclusive creation lost against an existing file."""
    if isinstance(error, FileExistsError):
        return True
    return error_code(error) in {"PreconditionFailed", "412"}


def is_absent(error: BaseException) -> bool:
    """Returns whether a file is not there, in a bucket that is."""
    return isinstance(error, FileNotFoundError) and error_code(error) != "NoSuchBucket"


def storage_error(
    action: str, url: str, error: BaseException, secrets: frozenset[str]
) -> StorageError:
    """Returns what to raise for a vendor's error, free of every secret."""
    said = scrub(str(error), secrets) or "no message"
    remedy = _REMEDIES[_kind(error)]
    fault = StorageError(
        f"{url}: cannot {action}: {type(error).__name__}: {said}: {remedy}"
    )
    # A traceback prints the whole chain: hide a vendor's error that quotes a secret.
    leaks = any(scrub(str(e), secrets) != str(e) for e in _chain(error))
    fault.__cause__ = None if leaks else error
    return fault


def _kind(error: BaseException) -> str:
    code = error_code(error)
    names = " ".join(type(link).__name__ for link in _chain(error))
    number = error.errno if isinstance(error, OSError) else None
    if code == "NoSuchBucket":
        return "bucket"
    if isinstance(error, PermissionError) or code in _REFUSED_CODES:
        return "refused"
    if "NoCredentials" in names or number == errno.EROFS:
        return "refused"
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return "full"
    is_network = isinstance(error, TimeoutError | ConnectionError)
    return "unreachable" if is_network or "Connect" in names else "other"


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__

"""A storage server that is slow, broken or forbidding, and what the caller gets."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from checkpoints import (
    CheckpointError,
    CheckpointManager,
    Storage,
    StorageError,
    open_storage,
    remote,
)
from tests.checkpoints.conftest import S3Server
from tests.checkpoints.proxy import Fault, FaultyProxy


@dataclass(frozen=True, slots=True)
class Faulty:
    """A bucket behind a proxy, and a client that leaves trying again to us."""

    proxy: FaultyProxy
    bucket: str
    options: dict[str, object]

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/run"

    def open(self) -> Storage:
        return open_storage(self.url, self.options)


@pytest.fixture
def faulty(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setattr(remote, "_PAUSES_S", (0.05, 0.1))
    with FaultyProxy(s3_server.endpoint_url) as proxy:
        options = {
            **s3_server.options,
            "endpoint_url": proxy.url,
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        yield Faulty(proxy, s3_server.new_bucket(), options)


def puts(method: str, path: str) -> bool:
    return method == "PUT"


def manifests(method: str, path: str) -> bool:
    return method == "PUT" and "manifest.json" in path


def test_a_server_that_is_busy_for_a_moment_is_asked_again(faulty: Faulty) -> None:
    faulty.proxy.faults.append(Fault(takes=lambda *_: True, times=2))
    faulty.open().write_bytes("x", b"1")
    assert faulty.open().read_bytes("x") == b"1"


def test_a_connection_that_is_cut_is_opened_again(faulty: Faulty) -> None:
    faulty.proxy.faults.append(Fault(takes=lambda *_: True, times=2, is_cut=True))
    faulty.open().write_bytes("x", b"1")
    assert faulty.open().read_bytes("x") == b"1"


def test_a_server_that_stays_broken_is_given_up(faulty: Faulty) -> None:
    faulty.proxy.faults.append(Fault(takes=puts, times=1000))
    with pytest.raises(StorageError, match=r"run/x: cannot write: .*planted"):
        faulty.open().write_bytes("x", b"1")
    assert len(faulty.proxy.requests) < 10


def test_a_save_fails_whole_when_the_server_stays_broken(faulty: Faulty) -> None:
    with CheckpointManager(faulty.url, storage_options=faulty.options) as manager:
        manager.save(1, {"x": torch.ones(3)}).wait()
        faulty.proxy.faults.append(Fault(takes=manifests, times=1000))
        handle = manager.save(2, {"x": torch.zeros(3)})
        with pytest.raises(StorageError):
            handle.wait()
        faulty.proxy.faults.clear()
        state = {"x": torch.zeros(3)}
        info = manager.restore(state)
    assert info is not None
    assert info.step == 1
    assert state["x"].tolist() == [1.0] * 3


@pytest.mark.parametrize("is_cut", [True, False])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_commit_whose_answer_is_lost_counts(
    faulty: Faulty, is_cut: bool, times: int
) -> None:
    lost = Fault(takes=manifests, times=times, is_forwarded=True, is_cut=is_cut)
    faulty.proxy.faults.append(lost)
    with CheckpointManager(faulty.url, storage_options=faulty.options) as manager:
        info = manager.save(1, {"x": torch.ones(3)}).wait()
        assert lost.times < times
        assert manager.latest() == info
        assert manager.restore({"x": torch.zeros(3)}) == info


def test_a_storage_that_fails_is_no_reason_to_fall_back(faulty: Faulty) -> None:
    with CheckpointManager(faulty.url, storage_options=faulty.options) as manager:
        for step in (1, 2):
            manager.save(step, {"x": torch.ones(3)}).wait()
        faulty.proxy.faults.append(
            Fault(takes=lambda m, p: m == "GET" and p.endswith(".bin"), times=1000)
        )
        with pytest.raises(StorageError):
            manager.restore({"x": torch.zeros(3)})
        faulty.proxy.faults.clear()
        latest = manager.latest()
    assert latest is not None
    assert latest.step == 2


def test_retention_deletes_the_manifest_before_the_data(faulty: Faulty) -> None:
    options = faulty.options
    with CheckpointManager(faulty.url, keep_latest=1, storage_options=options) as m:
        m.save(1, {"x": torch.ones(3)}).wait()
        m.save(2, {"x": torch.ones(3)}).wait()
    deleted = [p for m, p in faulty.proxy.requests if m == "DELETE"]
    assert deleted[0].endswith("step-00000001/manifest.json")
    assert deleted[1].endswith(".bin")


def test_a_missing_bucket_is_named_and_not_created(s3_server: S3Server) -> None:
    url = f"s3://absent-{secrets.token_hex(4)}/run"
    manager = CheckpointManager(url, storage_options=s3_server.options)
    with pytest.raises(StorageError, match=f"{url}.*: the bucket must exist; create"):
        manager.restore({"x": torch.zeros(1)})
    handle = manager.save(1, {"x": torch.zeros(1)})
    with pytest.raises(StorageError, match="the bucket must exist"):
        handle.wait()
    manager.close()


def test_a_server_that_is_not_there_is_named(s3_server: S3Server) -> None:
    options = {
        **s3_server.options,
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    start = time.monotonic()
    with pytest.raises(StorageError, match="check endpoint_url and the network"):
        open_storage("s3://bucket/run", options).list()
    assert time.monotonic() - start < 20


def test_refused_credentials_are_named_but_never_shown(
    faulty: Faulty, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="checkpoints")
    quoting = f"the key {s3_server.key} with {s3_server.secret} is unknown"
    faulty.proxy.faults.append(
        Fault(
            takes=lambda *_: True,
            times=1000,
            status=403,
            code="InvalidAccessKeyId",
            message=quoting,
        )
    )
    manager = CheckpointManager(faulty.url, storage_options=faulty.options)
    errors: list[StorageError] = []
    for call in (
        lambda: manager.restore({"x": torch.zeros(1)}),
        lambda: manager.save(1, {"x": torch.zeros(1)}).wait(),
        lambda: faulty.open().read_bytes("x"),
    ):
        with pytest.raises(StorageError, match="credentials must allow") as caught:
            call()
        errors.append(caught.value)
    manager.close()
    shown = "".join("".join(traceback.format_exception(error)) for error in errors)
    assert "the key *** with *** is unknown" in shown
    for secret in (s3_server.key, s3_server.secret):
        assert secret not in shown + caplog.text


def test_no_file_holds_a_credential(s3_server: S3Server) -> None:
    url = f"s3://{s3_server.new_bucket()}/run"
    with CheckpointManager(url, storage_options=s3_server.options) as manager:
        info = manager.save(1, {"x": torch.ones(1)}, metrics={"loss": 1.0}).wait()
    folder = open_storage(info.url, s3_server.options)
    for name in folder.list():
        content = folder.read_bytes(name)
        assert s3_server.key.encode() not in content
        assert s3_server.secret.encode() not in content


def test_the_user_in_a_url_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # below it fsspec itself shows whole paths
    caplog.set_level(logging.DEBUG, logger="checkpoints")
    url = f"memory://someone:pa55word@host-{secrets.token_hex(4)}/run"
    with CheckpointManager(url) as manager:
        info = manager.save(1, {"x": torch.ones(1)}).wait()
        handle = manager.save(1, {"x": torch.ones(1)})
        with pytest.raises(CheckpointError, match="committed already") as caught:
            handle.wait()
        content = manager._catalog.folder(1).read_bytes("manifest.json")
    shown = f"{info} {caught.value} {caplog.text} {open_storage(url)!r} {content!r}"
    assert "host-" in shown
    assert "pa55word" not in shown
    assert "someone" not in shown

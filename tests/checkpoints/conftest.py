"""Fixtures of the checkpoint tests: a real S3 server, and one storage of each kind."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkpoints import CheckpointManager, Storage, open_storage

_START_S = 30.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A moto server on the loopback interface; the keys are made up."""

    endpoint_url: str
    key: str = "AKIAPLANTEDKEY"
    secret: str = "planted/secret+of/the-tests"

    @property
    def options(self) -> dict[str, object]:
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": self.endpoint_url,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def new_bucket(self) -> str:
        name = f"bucket-{secrets.token_hex(6)}"
        request = urllib.request.Request(f"{self.endpoint_url}/{name}", method="PUT")
        urllib.request.urlopen(request).close()
        return name


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen(
        [script, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, server)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a storage is, so that several clients can open it."""

    url: str
    options: dict[str, object]

    def open(self) -> Storage:
        return open_storage(self.url, self.options)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server) -> Place:
    """An empty folder in each kind of storage."""
    if request.param == "local":
        return Place(str(tmp_path / "run"), {})
    if request.param == "memory":
        return Place(f"memory://{secrets.token_hex(6)}/run", {})
    return Place(f"s3://{s3_server.new_bucket()}/run", s3_server.options)


@pytest.fixture
def storage(place: Place) -> Storage:
    return place.open()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[CheckpointManager]:
    """A manager of an empty local run."""
    with CheckpointManager(tmp_path / "run") as made:
        yield made


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            assert server.poll() is None, f"moto_server ended: {server.returncode}"
            assert time.monotonic() < deadline, "moto_server did not answer"
            time.sleep(0.05)

"""What every test gets: pinned threads, a watch on what it leaves, an own folder.

Must not import torch or Ray: a test that needs neither should start at once.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks

# One and two threads give different bits. Read by torch when it is imported, here and
# in every process that a test starts.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

leaks.mark_session()


def pytest_configure(config: pytest.Config) -> None:
    # Ray otherwise writes a token below the home folder. One for the whole session,
    # because a process keeps the first that it read.
    folder = tempfile.TemporaryDirectory(prefix="perennial-tests-")
    config.add_cleanup(folder.cleanup)
    token_file = Path(folder.name, "ray-token")
    token_file.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before = leaks.look_around()
    yield
    left = leaks.clear_leaks(before)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)
    if left:
        pytest.fail("this test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty folder that is the working directory during the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU, and torch.cuda.is_available() is False here")

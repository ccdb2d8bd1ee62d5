"""What a run was made from, whatever state the folder and the packages are in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.provenance import collect


def git(*words: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", *words]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(workspace: Path) -> Path:
    git("init", "--quiet")
    (workspace / "train.py").write_text("lr = 1\n")
    git("add", "train.py")
    git("commit", "--quiet", "--message", "first")
    return workspace


def test_a_repository_gives_its_commit_and_what_was_changed_since(
    repository: Path,
) -> None:
    facts = collect([])
    assert facts["git_commit"] == git("rev-parse", "HEAD")
    assert facts["git_diff"] == ""
    (repository / "train.py").write_text("lr = 2\n")
    assert "+lr = 2" in collect([])["git_diff"]


def test_a_change_in_another_encoding_is_no_obstacle(repository: Path) -> None:
    (repository / "train.py").write_bytes("größe = 2\n".encode("latin-1"))
    facts = collect([])
    assert "e = 2" in facts["git_diff"]
    json.dumps(facts)


def test_outside_a_repository_there_is_no_commit(workspace: Path) -> None:
    facts = collect([])
    assert facts["git_commit"] is None
    assert facts["git_diff"] is None
    assert facts["working_dir"] == str(workspace)


def test_without_git_there_is_no_commit(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(workspace))
    assert collect([])["git_commit"] is None


def test_the_facts_are_those_of_this_process_and_json(workspace: Path) -> None:
    facts = collect(["seed=1"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["python"] == sys.version
    assert facts["packages"]["torch"].startswith("2.")
    assert list(facts["packages"]) == sorted(facts["packages"])
    assert facts["hardware"]["num_cpus"] == os.cpu_count()
    assert facts["hardware"]["memory_bytes"] > 2**28


def test_the_command_has_the_words_that_were_given_and_not_those_of_the_shell(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = ["python", "-m", "trainer", "--config-dir", "own", "storage_options.key=K"]
    monkeypatch.setattr(sys, "orig_argv", shell)
    command = collect(["storage_options.key=***"])["command"]
    assert command == [*shell[:-1], "storage_options.key=***"]


def test_nothing_of_the_environment_is_told(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert "hunter2" not in json.dumps(collect([]))


@pytest.mark.parametrize("metadata", ["", None], ids=["empty", "absent"])
def test_a_broken_package_is_left_out(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, metadata: str | None
) -> None:
    # As an interrupted installation leaves it.
    info = workspace / "broken-1.0.dist-info"
    info.mkdir()
    if metadata is not None:
        (info / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(workspace)
    packages = collect([])["packages"]
    assert "torch" in packages
    assert None not in packages

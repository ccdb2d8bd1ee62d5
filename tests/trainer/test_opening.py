"""The same words continue a run or give its result; other words are refused."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import yaml

from checkpoints import CheckpointManager
from trainer.config import TrainConfig, load_config
from trainer.errors import ConfigError, ResumeError
from trainer.opening import (
    check_data,
    new_run_name,
    open_run,
    require_checkpoint,
    run_folder,
)
from trainer.result import Status, TrainResult
from trainer.run_folder import CONFIG, RESULT, RunFolder


@cache  # composing costs far more than all that these tests do with it
def config_of(storage: Path, *words: str) -> TrainConfig:
    own = [f"storage_url={storage}", "name=mine", "duration.max_steps=10"]
    return load_config([*own, *words])


def open_with(storage: Path, *words: str) -> TrainResult | None:
    """Opens the run, and makes it one that has saved something."""
    config = config_of(storage, *words)
    folder = run_folder(config)
    result = open_run(folder, config)
    if not folder.has_checkpoint():
        with CheckpointManager(folder.url) as manager:
            manager.save(1, {"progress": {"step": 1}})
    return result


def result_of(folder: RunFolder, status: Status, step: int = 10) -> TrainResult:
    return TrainResult(
        status=status,
        name="mine",
        run_url=folder.url,
        step=step,
        samples_seen=640,
        metrics={"eval/loss": 0.25},
        best=None,
        model_digest="ab" * 32,
        checkpoint_url=None,
        wall_time_s=1.5,
        num_restarts=0,
        num_preemptions=0,
        steps_lost=0,
        ledger={"train": 1.5},
    )


def finish(storage: Path, status: Status = Status.COMPLETED) -> TrainResult:
    folder = run_folder(config_of(storage))
    result = result_of(folder, status)
    folder.write_json(RESULT, result.to_json())
    return result


def refused(storage: Path, *words: str) -> ResumeError:
    with pytest.raises(ResumeError) as caught:
        open_with(storage, *words)
    return caught.value


def test_a_run_that_saved_nothing_may_start_anew_with_other_words(
    tmp_path: Path,
) -> None:
    for seed in (1, 2):
        config = config_of(tmp_path, f"seed={seed}")
        assert open_run(run_folder(config), config) is None
    folder = tmp_path / "mine"
    assert yaml.safe_load((folder / CONFIG).read_text())["seed"] == 2
    assert "seed=2" in (folder / "overrides.yaml").read_text()


def test_a_new_run_writes_what_it_was_made_from(tmp_path: Path) -> None:
    assert open_with(tmp_path, "seed=5") is None
    folder = tmp_path / "mine"
    assert yaml.safe_load((folder / CONFIG).read_text())["seed"] == 5
    words = yaml.safe_load((folder / "overrides.yaml").read_text())
    assert words[-1] == "seed=5"
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"][-1] == "seed=5"
    [event] = run_folder(config_of(tmp_path)).events()
    assert event["event"] == "run_started"
    assert event["overrides"] == words


def test_the_same_words_continue_and_keep_the_first_provenance(tmp_path: Path) -> None:
    open_with(tmp_path)
    provenance = (tmp_path / "mine" / "provenance.json").read_bytes()
    assert open_with(tmp_path) is None
    assert (tmp_path / "mine" / "provenance.json").read_bytes() == provenance
    events = run_folder(config_of(tmp_path)).events()
    assert [event["event"] for event in events] == ["run_started"] * 2


def test_a_completed_run_answers_with_its_result(tmp_path: Path) -> None:
    open_with(tmp_path)
    result = finish(tmp_path)
    before = sorted((tmp_path / "mine").rglob("*"))
    assert open_with(tmp_path) == result
    assert open_with(tmp_path, "logging.every_steps=3") == result
    assert sorted((tmp_path / "mine").rglob("*")) == before
    assert len(run_folder(config_of(tmp_path)).events()) == 1


@pytest.mark.parametrize("status", [Status.PREEMPTED, Status.FAILED])
def test_a_run_that_did_not_complete_continues(tmp_path: Path, status: Status) -> None:
    open_with(tmp_path)
    finish(tmp_path, status)
    assert open_with(tmp_path) is None


def test_changed_words_are_refused_with_every_difference(tmp_path: Path) -> None:
    open_with(tmp_path)
    before = (tmp_path / "mine" / CONFIG).read_bytes()
    error = refused(tmp_path, "optimizer.lr=0.5", "seed=3", "logging.every_steps=1")
    assert {fault.path for fault in error.faults} == {"optimizer.lr", "seed"}
    [seed] = [fault for fault in error.faults if fault.path == "seed"]
    assert str(seed) == (
        f"seed=3: the run {tmp_path / 'mine'} was started with 0; type seed=0, "
        "allow the change by resume_allow=[seed], or give another name="
    )
    assert (tmp_path / "mine" / CONFIG).read_bytes() == before
    assert len(run_folder(config_of(tmp_path)).events()) == 1


def test_a_refused_run_is_opened_by_the_words_that_the_refusal_names(
    tmp_path: Path,
) -> None:
    open_with(tmp_path)
    error = refused(tmp_path, "clip_grad_norm=1.0")
    [fault] = error.faults
    word = fault.remedy.partition(",")[0].removeprefix("type ")
    assert open_with(tmp_path, "clip_grad_norm=1.0", word) is None


def test_a_key_that_the_run_did_not_have_is_to_be_left_out(tmp_path: Path) -> None:
    one = "callbacks.one._target_=trainer.callbacks.Callback"
    open_with(tmp_path, one)
    two = one.replace("one", "two")
    [fault] = refused(tmp_path, one, two).faults
    assert fault.remedy.startswith("leave callbacks.two._target_ out, ")


def test_a_change_that_is_allowed_is_recorded(tmp_path: Path) -> None:
    open_with(tmp_path)
    assert open_with(tmp_path, "optimizer.lr=0.5", "resume_allow=[optimizer]") is None
    assert run_folder(config_of(tmp_path)).read_yaml(CONFIG)["optimizer"]["lr"] == 0.5
    # From now on these are the run's words, and the former are the changed ones.
    assert open_with(tmp_path, "optimizer.lr=0.5") is None
    assert [fault.path for fault in refused(tmp_path).faults] == ["optimizer.lr"]


LONGER = ("duration.max_steps=20", "resume_allow=[duration]")


def test_a_completed_run_whose_end_was_moved_continues(tmp_path: Path) -> None:
    open_with(tmp_path)
    finish(tmp_path)
    assert open_with(tmp_path, *LONGER) is None


def test_a_moved_end_still_counts_after_a_kill(tmp_path: Path) -> None:
    open_with(tmp_path)
    finish(tmp_path)
    open_with(tmp_path, *LONGER)  # and was killed before its end
    assert open_with(tmp_path, *LONGER) is None


def test_resume_never_refuses_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    assert open_with(tmp_path, "resume=never") is None
    error = refused(tmp_path, "resume=never")
    assert "already holds a run" in str(error)
    assert "resume=auto" in str(error)


def test_resume_required_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    assert "holds nothing to continue" in str(refused(tmp_path, "resume=required"))
    assert list(tmp_path.iterdir()) == []
    open_with(tmp_path)
    assert open_with(tmp_path, "resume=required") is None


def test_resume_required_refuses_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    config = config_of(tmp_path, "resume=required")
    with pytest.raises(ResumeError, match="holds nothing to continue"):
        require_checkpoint(run_folder(config), config)
    config = config_of(tmp_path)
    require_checkpoint(run_folder(config), config)


def test_a_refusal_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    open_with(tmp_path)
    assert isinstance(refused(tmp_path, "seed=1"), ConfigError)


def test_no_secret_is_in_any_file_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "storage_options.secret=hunter2",
        "logging.mlflow_tracking_uri=https://me:hunter2@server/x",
        "experiment=stdlib_gpt",
        "task.files_options.token=hunter2",
        "callbacks.mine._target_=trainer.callbacks.Callback",
        "callbacks.mine.api_key=hunter2",
    ]
    command = [sys.executable, "-m", "trainer", "--config-dir", "own", *words]
    monkeypatch.setattr(sys, "orig_argv", command)
    monkeypatch.chdir(tmp_path)  # provenance holds the diff of a repository
    open_with(tmp_path, *words)
    open_with(tmp_path, *words)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {CONFIG, "provenance.json", "events.jsonl"}
    for file in files:
        assert "hunter2" not in file.read_text(), file
    # Another secret is no other run, and a refusal shows none.
    other = [word.replace("hunter2", "hunter3") for word in words]
    assert open_with(tmp_path, *other) is None
    assert "hunter" not in str(refused(tmp_path, *words, "seed=1"))


def test_data_that_changed_is_refused_with_both_identities() -> None:
    check_data({"train": "9 samples, a"}, {"train": "9 samples, a"})
    with pytest.raises(ResumeError) as caught:
        check_data(
            {"train": "9 samples, a", "eval": "3 samples, b"},
            {"train": "8 samples, a"},
        )
    assert len(caught.value.faults) == 2
    assert "train data of 8 samples, a" in str(caught.value)
    assert "was trained on 9 samples, a" in str(caught.value)
    assert "eval data of nothing" in str(caught.value)


def test_a_run_without_a_name_gets_one_of_its_experiment_and_time() -> None:
    name = new_run_name(load_config(["experiment=digits"]))
    assert name.startswith("digits-2")
    assert len(name) == len("digits-20260101-000000")


def test_a_stored_result_is_the_one_that_was_given(tmp_path: Path) -> None:
    open_with(tmp_path)
    result = finish(tmp_path)
    stored = json.loads((tmp_path / "mine" / RESULT).read_text())
    assert stored == {**asdict(result), "status": "completed"}

"""`python -m trainer` as a person types it, in fresh processes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.runs import (
    TRAINER,
    Launcher,
    command,
    read_lines,
    read_result,
    run_to_end,
)

SHORT = ("experiment=digits", "duration.max_epochs=null", "duration.max_steps=30")
README = Path(__file__).parents[2] / "README.md"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    line = [*TRAINER, *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_digits_reach_97_percent(workspace: Path) -> None:
    done = run("name=digits")
    assert done.returncode == 0, done.stderr
    result = read_result(workspace / "runs" / "digits")
    assert result["status"] == "completed"
    assert result["metrics"]["eval/accuracy"] >= 0.97
    assert result["best"]["value"] >= result["metrics"]["eval/accuracy"]
    assert sum(result["ledger"].values()) == pytest.approx(result["wall_time_s"])
    assert done.stdout.startswith("completed  step 224 ")


def test_the_run_folder_holds_what_the_contract_says(workspace: Path) -> None:
    assert run(*SHORT, "name=run").returncode == 0
    folder = workspace / "runs" / "run"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml",
        "overrides.yaml",
        "provenance.json",
        "metrics.jsonl",
        "events.jsonl",
        "checkpoints",
        "result.json",
    }
    assert (folder / "checkpoints" / "step-00000030" / "manifest.json").exists()
    for line in read_lines(folder / "metrics.jsonl"):
        assert {"step", "epoch", "samples", "time", "split", "loss"} <= line.keys()
    events = [line["event"] for line in read_lines(folder / "events.jsonl")]
    assert events[:2] == ["run_started", "workers_started"]
    assert events[-2:] == ["checkpoint_saved", "run_finished"]


def test_the_same_words_print_the_result_of_a_finished_run(workspace: Path) -> None:
    first = run(*SHORT, "name=run")
    events = (workspace / "runs" / "run" / "events.jsonl").read_text()
    again = run(*SHORT, "name=run")
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert (workspace / "runs" / "run" / "events.jsonl").read_text() == events


def test_a_changed_configuration_is_refused_with_the_difference(
    workspace: Path,
) -> None:
    assert run(*SHORT, "name=run").returncode == 0
    changed = run(*SHORT, "name=run", "optimizer.lr=0.1")
    assert changed.returncode == 2
    assert "optimizer.lr=0.1" in changed.stderr
    assert "0.005" in changed.stderr
    assert "resume_allow=[optimizer.lr]" in changed.stderr


@pytest.mark.slow
def test_a_run_without_a_name_gets_one_of_its_own(workspace: Path) -> None:
    assert run(*SHORT).returncode == 0
    [folder] = (workspace / "runs").iterdir()
    assert re.fullmatch(r"digits-\d{8}-\d{6}", folder.name)


def test_all_faults_come_at_once_with_exit_code_2(workspace: Path) -> None:
    bad = run(
        "optimiser.lr=1", "batch.global_size=abc", "checkpoint.metric=eval/acuracy"
    )
    assert bad.returncode == 2
    assert "3 faults" in bad.stderr
    for word in ("optimizer", "batch.global_size", "eval/accuracy"):
        assert word in bad.stderr
    assert not (workspace / "runs").exists()


def test_a_bad_configuration_loads_neither_torch_nor_ray(workspace: Path) -> None:
    code = (
        "import sys; from trainer.__main__ import main; code = main(['batch.globl=1']);"
        "print(code, sorted({'torch', 'ray', 'deepspeed'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"


def test_help_fits_80_columns(workspace: Path) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "batch.global_size" in done.stdout


def test_help_may_be_cut_short_by_a_pipe(workspace: Path) -> None:
    line = f"{sys.executable} -m trainer --help | head -1"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_cfg_prints_the_configuration_and_trains_nothing(workspace: Path) -> None:
    done = run("--cfg", "optimizer=sgd", "storage_options.secret=hidden")
    assert done.returncode == 0
    assert "torch.optim.SGD" in done.stdout
    assert "hidden" not in done.stdout
    assert not (workspace / "runs").exists()


def test_a_planted_secret_is_in_no_file_of_the_run(workspace: Path) -> None:
    words = [*SHORT, "name=run", "storage_options.secret=hunter2hunter2"]
    assert run(*words).returncode == 0
    files = [p for p in (workspace / "runs" / "run").rglob("*") if p.is_file()]
    assert len(files) > 5
    assert not [p for p in files if b"hunter2" in p.read_bytes()]


@pytest.mark.slow
def test_a_run_in_memory_and_by_time_ends(workspace: Path) -> None:
    started = time.monotonic()
    done = run(
        "experiment=digits",
        "storage_url=memory://runs",
        "duration.max_epochs=null",
        "duration.max_time_s=1",
        "lr_schedule=constant",
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert done.stdout.startswith("completed ")


@pytest.mark.slow
def test_the_readmes_task_trains_both_ways(workspace: Path) -> None:
    blocks = re.findall(r"```(?:python)?\n(.*?)```", README.read_text(), re.DOTALL)
    [task] = [block for block in blocks if "class Spiral" in block]
    [script] = [block for block in blocks if "name=spiral" in block]
    [words] = [
        block for block in blocks if block.startswith("python -m trainer task._")
    ]
    (workspace / "my_task.py").write_text(task)
    (workspace / "script.py").write_text(script)
    python = [sys.executable, "script.py"]
    done = subprocess.run(python, capture_output=True, text=True, check=True)
    status, accuracy, _ = done.stdout.split()
    assert status == "completed"
    assert float(accuracy) > 0.95
    typed = words.replace("\\\n", " ").split()[3:]
    assert run(*typed, "name=typed").returncode == 0
    result = read_result(workspace / "runs" / "typed")
    assert result["metrics"]["eval/accuracy"] == float(accuracy)


@pytest.mark.slow
def test_torchrun_trains_as_one_run(workspace: Path) -> None:
    log = workspace / "log"
    assert run_to_end(command(Launcher.TORCHRUN, [*SHORT]), log) == 0, log.read_text()
    [folder] = (workspace / "runs").iterdir()
    assert read_result(folder)["status"] == "completed"
    starts = [e for e in read_lines(folder / "events.jsonl") if "num_workers" in e]
    assert [start["num_workers"] for start in starts] == [2]

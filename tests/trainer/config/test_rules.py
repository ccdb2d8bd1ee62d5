from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.config.faults import faults_of, only_fault
from trainer.config import BatchConfig, check, load_config
from trainer.config.bounds import BOUNDS, Bound
from trainer.config.environment import has_nvidia_device
from trainer.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]
SUPERVISED = (
    "task=supervised",
    "task.model._target_=torch.nn.Linear",
    "task.train_data._target_=torch.utils.data.TensorDataset",
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "checkpoint.keep_latest=0",
            "checkpoint.keep_latest=0: must be >= 1, because resume needs one;"
            " set checkpoint.keep_latest=1",
        ),
        (
            "checkpoint.every_steps=0",
            "checkpoint.every_steps=0: must be >= 1, because null turns it off;"
            " set checkpoint.every_steps=null",
        ),
        (
            "task.dropout=1",
            "task.dropout=1.0: must be >= 0 and < 1; set task.dropout=0.1",
        ),
        (
            "optimizer.lr=nan",
            "optimizer.lr=nan: must be a finite number > 0; set optimizer.lr=0.001",
        ),
        (
            "batch.global_size=65 scaling.num_workers=2",
            "batch.global_size=65: 2 workers share a step evenly, so it must be"
            " divisible by 2; set batch.global_size=66",
        ),
        (
            "batch.micro_size=12 scaling.num_workers=2",
            "batch.micro_size=12: must divide a worker's share of a step, which is 32"
            " samples (batch.global_size=64 over 2); set batch.micro_size=8",
        ),
        (
            "scaling=ray_elastic batch.global_size=3",
            "batch.global_size=3: 4 workers need a sample each in every step;"
            " set batch.global_size=4",
        ),
        (
            "scaling.num_workers=[4,1]",
            "scaling.num_workers=[4, 1]: the range is reversed: [min, max] needs"
            " min <= max; set scaling.num_workers=[1,4]",
        ),
        (
            "scaling.num_workers=[0,4]",
            "scaling.num_workers=[0, 4]: must be an integer >= 0, or [min, max] with"
            " 1 <= min <= max; set scaling.num_workers=[1,4]",
        ),
        (
            "scaling.num_workers=many",
            "scaling.num_workers=many: must be an integer >= 0, or [min, max] with"
            " 1 <= min <= max; set scaling.num_workers=0",
        ),
        (
            "scaling=ray_2 strategy=single",
            "strategy=single: works with one worker, and there are up to 2;"
            " type strategy=ddp",
        ),
        (
            "scaling=ray_2 storage_url=memory://runs",
            "storage_url=memory://runs: the memory of one process is no storage for"
            " several; set storage_url=runs",
        ),
        (
            "logging=tensorboard storage_url=s3://bucket/runs",
            "logging.tensorboard=true: event files need a local folder, and storage_url"
            " is s3://bucket/runs; set logging.tensorboard=false",
        ),
        (
            "name=../up",
            "name=../up: must be a folder below storage_url: letters, digits, '.', '_'"
            " and '-', with '/' between folders; set name=up",
        ),
        (
            "resume=required",
            "resume=required: only a run with a name can be found again;"
            " set name=my_run",
        ),
        (
            "resume_allow=[batch.globl_size]",
            "resume_allow=batch.globl_size: batch has no key globl_size; its keys are"
            " global_size, micro_size; set resume_allow=[batch.global_size]",
        ),
        (
            "checkpoint.metric=eval/acuracy",
            "checkpoint.metric=eval/acuracy: is no metric of this task's evaluation;"
            " they are eval/loss, eval/accuracy; set checkpoint.metric=eval/accuracy",
        ),
        (
            "early_stopping.patience=3 evaluation.every_steps=null",
            "early_stopping.patience=3: early stopping counts evaluations, and there"
            " is one only at the end; set evaluation.every_steps=100",
        ),
        (
            "early_stopping.patience=3 checkpoint.metric=null",
            "early_stopping.patience=3: early stopping needs checkpoint.metric to judge"
            " by; set checkpoint.metric=eval/loss",
        ),
        (
            "duration.max_epochs=null",
            "duration=null: a run needs an end: one of max_steps, max_epochs,"
            " max_samples and max_time_s; set duration.max_epochs=1",
        ),
        (
            "duration.max_epochs=null duration.max_time_s=60",
            "lr_schedule.decay_steps=null: a cosine decay needs an end in steps, and"
            " the duration gives seconds only; set lr_schedule.decay_steps=1000",
        ),
        (
            "lr_schedule.warmup_steps=50 lr_schedule.decay_steps=50",
            "lr_schedule.warmup_steps=50: the warm-up must be over before the decay"
            " ends, at lr_schedule.decay_steps=50; set lr_schedule.warmup_steps=5",
        ),
        (
            "experiment=stdlib_gpt task.width=130",
            "task.width=130: must be a multiple of task.num_heads=4;"
            " set task.width=132",
        ),
        (
            "task._target_=my_pgk.MyTask",
            "task._target_=my_pgk.MyTask: there is no module my_pgk installed or in the"
            " working directory; set task._target_=my_pkg.MyClass",
        ),
        (
            "task._target_=MyTask",
            "task._target_=MyTask: must be the full name, module.Class;"
            " set task._target_=my_pkg.MyClass",
        ),
        (
            "callbacks.mine.x=1",
            "callbacks.mine={'x': 1}: must name what to build by _target_;"
            " set callbacks.mine._target_=my_pkg.MyClass",
        ),
        (
            "optimizer._target_=torch.optim.SGD optimizer.lr=fast",
            "optimizer.lr=fast: must be a number, because the schedule scales it;"
            " set optimizer.lr=0.001",
        ),
    ],
)
def test_a_broken_rule_is_answered_with_the_word_to_type(
    words: str, message: str
) -> None:
    assert str(only_fault(*words.split())) == message


@pytest.mark.parametrize(
    "words",
    [
        "checkpoint.every_steps=null checkpoint.every_s=null",
        "checkpoint.keep_best=3 checkpoint.metric=null",
        "precision=fp16",
        "name=studies/a-1/trials/0007",
        "storage_url=memory://runs",
        "logging=tensorboard storage_url=file:///tmp/runs",
        "scaling=ray_elastic batch.micro_size=5",
        "scaling.num_workers=[2,2]",
        "lr_schedule=constant duration.max_epochs=null duration.max_time_s=60",
        "duration.max_steps=20 lr_schedule.warmup_steps=50",
        "resume_allow=[task,optimizer.lr,storage_options.key]",
        "resume=required name=a",
        "task._target_=torch.nn.Linear checkpoint.metric=eval/any",
        "seed=9223372036854775807",
    ],
)
def test_what_breaks_no_rule_is_accepted(words: str) -> None:
    load_config(words.split())


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.path)
def test_the_value_that_a_bound_advises_is_within_it(bound: Bound) -> None:
    assert bound.remedy == "null" or bound.admits(float(bound.remedy))
    experiment = "stdlib_gpt" if bound.path.startswith("task.") else "digits"
    config = load_config([f"experiment={experiment}"])
    node: object = config
    for name in bound.path.split("."):
        assert hasattr(node, name)
        node = getattr(node, name)


def test_the_metrics_of_a_supervised_task_are_those_it_names() -> None:
    words = (
        *SUPERVISED,
        "task.eval_data._target_=torch.utils.data.TensorDataset",
        "task.metrics.recall._target_=torch.nn.L1Loss",
    )
    load_config([*words, "checkpoint.metric=eval/recall"])
    fault = only_fault(*words, "checkpoint.metric=eval/recal")
    assert fault.remedy == "set checkpoint.metric=eval/recall"


def test_a_metric_without_data_to_evaluate_says_so() -> None:
    fault = only_fault(*SUPERVISED, "checkpoint.metric=eval/loss")
    assert "nothing is evaluated" in fault.rule
    assert fault.remedy.startswith("set checkpoint.metric=null")


@pytest.mark.skipif(has_nvidia_device(), reason="this machine has an NVIDIA GPU")
def test_a_gpu_is_refused_where_this_process_trains_and_there_is_none() -> None:
    fault = only_fault("scaling.use_gpu=true")
    assert fault.remedy == "set scaling.use_gpu=false"
    load_config(["scaling.use_gpu=true", "scaling=ray_2"])


def test_under_torchrun_its_ranks_share_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend_torchrun(monkeypatch, world_size=3)
    assert only_fault().remedy == "set batch.global_size=66"
    load_config(["batch.global_size=66"])


def test_ray_workers_under_torchrun_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend_torchrun(monkeypatch, world_size=2)
    fault = only_fault("scaling=ray_2")
    assert fault.path == "scaling.num_workers"
    assert "torchrun" in fault.rule


def test_a_strategy_for_one_and_storage_in_memory_are_refused_for_two_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend_torchrun(monkeypatch, world_size=2)
    faults = faults_of("strategy=single", "storage_url=memory://runs")
    assert [fault.path for fault in faults] == ["strategy", "storage_url"]


def test_check_judges_what_python_code_has_changed() -> None:
    config = load_config()
    check(config)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"batch": BatchConfig(global_size=0)}, "batch.global_size"),
        ({"task": {"_target_": "a.b", "f": len}}, "task.f"),
    ]
    for change, path in changes:
        with pytest.raises(ConfigError) as caught:
            check(dataclasses.replace(config, **change))
        assert caught.value.faults[0].path == path


def test_a_module_of_the_users_is_looked_for_without_importing_it(
    workspace: Path,
) -> None:
    Path(workspace, "my_pkg.py").write_text("raise RuntimeError('imported')\n")
    code = (
        f"import sys; sys.path += ['', {str(REPOSITORY)!r}]\n"
        "from trainer.config import load_config\n"
        "print(load_config(['task._target_=my_pkg.MyTask']).task)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "{'_target_': 'my_pkg.MyTask'}"


def _pretend_torchrun(monkeypatch: pytest.MonkeyPatch, *, world_size: int) -> None:
    variables = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

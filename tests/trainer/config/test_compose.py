from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from trainer.config import (
    AdamWTargetConfig,
    DdpTargetConfig,
    DigitsTargetConfig,
    Mode,
    Schedule,
    SgdTargetConfig,
    load_config,
)
from trainer.config.catalogue import SHIPPED_DIR
from trainer.config.store import register_schemas

REPOSITORY = Path(__file__).resolve().parents[3]
OPTIONS = [
    (path.parent.name, path.stem) for path in sorted(SHIPPED_DIR.glob("*/*.yaml"))
]
# What an option leaves to the user, because it cannot have a default.
REQUIRED = {
    "task=supervised": (
        "task.model._target_=torch.nn.Linear",
        "task.train_data._target_=torch.utils.data.TensorDataset",
    ),
    "task=custom": ("task._target_=trainer.tasks.digits.DigitsTask",),
    "optimizer=custom": ("optimizer._target_=torch.optim.RMSprop",),
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    word = f"{group}={option}"
    config = load_config([word, *REQUIRED.get(word, ())])
    assert config.overrides[0] == word


def test_there_are_options_to_compose() -> None:
    assert ("experiment", "digits") in OPTIONS
    assert len(OPTIONS) > 20


@pytest.mark.parametrize("option", ["digits", "stdlib_gpt"])
@pytest.mark.parametrize("scaling", ["local", "ray_2", "ray_4", "ray_elastic"])
def test_every_experiment_runs_at_every_scale(option: str, scaling: str) -> None:
    config = load_config([f"experiment={option}", f"scaling={scaling}"])
    assert config.experiment == option


def test_no_words_are_the_digits_experiment() -> None:
    config = load_config()
    assert config.experiment == "digits"
    assert config.overrides == []
    assert isinstance(config.task, DigitsTargetConfig)
    assert isinstance(config.optimizer, AdamWTargetConfig)
    assert isinstance(config.strategy, DdpTargetConfig)
    assert config.lr_schedule.schedule is Schedule.cosine
    assert config.checkpoint.metric == "eval/accuracy"
    assert config.checkpoint.mode is Mode.max
    assert config.scaling.num_workers == 0


def test_words_stand_over_the_experiment() -> None:
    words = ["experiment=digits", "optimizer=sgd", "optimizer.lr=0.5", "seed=7"]
    config = load_config(words)
    assert config.optimizer == SgdTargetConfig(lr=0.5)
    assert config.seed == 7
    assert config.overrides == words


def test_a_choice_typed_stands_over_that_of_the_experiment() -> None:
    config = load_config(["checkpoint=timed"])
    assert config.checkpoint.every_steps is None
    assert config.checkpoint.every_s == 300
    assert config.checkpoint.metric == "eval/accuracy"


def test_words_that_choose_a_task_start_from_no_experiment() -> None:
    config = load_config(["task=digits"])
    assert config.experiment == "none"
    assert config.checkpoint.metric is None
    assert config.duration.max_epochs == 1


def test_one_epoch_is_the_end_only_when_nothing_says_another() -> None:
    config = load_config(["task=digits", "duration.max_steps=500"])
    assert config.duration.max_steps == 500
    assert config.duration.max_epochs is None


def test_a_target_of_ones_own_needs_no_choice_of_task_and_no_plus() -> None:
    config = load_config(
        [
            "task._target_=trainer.tasks.digits.DigitsTask",
            "task.width=64",
            "task.nested.sizes=[1,2]",
        ]
    )
    assert config.experiment == "none"
    assert config.task == {
        "_target_": "trainer.tasks.digits.DigitsTask",
        "width": 64,
        "nested": {"sizes": [1, 2]},
    }


def test_an_experiment_named_with_an_own_target_keeps_its_other_values() -> None:
    config = load_config(
        ["experiment=digits", "task._target_=trainer.tasks.digits.DigitsTask"]
    )
    assert config.experiment == "digits"
    assert config.duration.max_epochs == 10


def test_an_optimizer_of_ones_own_needs_no_choice_either() -> None:
    config = load_config(
        ["optimizer._target_=torch.optim.RMSprop", "optimizer.alpha=0.9"]
    )
    assert config.optimizer == {
        "_target_": "torch.optim.RMSprop",
        "lr": 0.005,
        "alpha": 0.9,
    }


def test_plus_passes_an_argument_that_the_schema_does_not_name() -> None:
    config = load_config(["+optimizer.amsgrad=true"])
    assert isinstance(config.optimizer, dict)
    assert config.optimizer["amsgrad"] is True
    assert config.optimizer["betas"] == [0.9, 0.999]


def test_open_dictionaries_take_any_key_without_a_plus() -> None:
    config = load_config(
        [
            "task=supervised",
            "task.model._target_=torch.nn.Linear",
            "task.model.in_features=3",
            "task.train_data._target_=torch.utils.data.TensorDataset",
            "task.eval_data._target_=torch.utils.data.TensorDataset",
            "task.metrics.accuracy._target_=torch.nn.L1Loss",
            "storage_options.client_kwargs.region_name=eu",
            "scaling.resources_per_worker.CPU=2",
            "callbacks={mine: {_target_: trainer.callbacks.Callback}}",
            "checkpoint.metric=eval/accuracy",
        ]
    )
    assert config.task.model == {"_target_": "torch.nn.Linear", "in_features": 3}
    assert config.storage_options == {"client_kwargs": {"region_name": "eu"}}
    assert config.scaling.resources_per_worker == {"CPU": 2.0}
    assert config.callbacks == {"mine": {"_target_": "trainer.callbacks.Callback"}}


def test_a_dictionary_in_one_word_sets_several_keys() -> None:
    config = load_config(["batch={global_size: 32, micro_size: 8}"])
    assert (config.batch.global_size, config.batch.micro_size) == (32, 8)


def test_tilde_removes_a_key_of_an_open_dictionary() -> None:
    config = load_config(["storage_options={a: 1, b: 2}", "~storage_options.a"])
    assert config.storage_options == {"b": 2}


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=stdlib_gpt", "optimizer=sgd", "seed=3"],
        ["++seed=4", "+storage_options.a={b: [1, 2.5, null, true]}", "name=a"],
        ["optimizer.betas=[0.5,0.9]", "storage_url=${name}", "name=x"],
        ["~recovery", "duration.max_time_s=1e3", "name=null", "seed=1", "seed=2"],
        ["experiment=none", "duration.max_epochs=2", "scaling.num_workers=[1,2]"],
        ["task.width='7'", "++callbacks={a: {_target_: torch.nn.Linear}}"],
    ],
)
def test_words_mean_what_they_mean_to_hydra(words: list[str]) -> None:
    register_schemas()
    with initialize_config_dir(str(SHIPPED_DIR), version_base="1.3"):
        expected = OmegaConf.to_object(compose("train", overrides=words))
    ours = load_config(words)
    assert dataclasses.replace(ours, overrides=[], experiment=None) == expected


def test_an_outer_hydra_application_is_left_as_it_was(tmp_path: Path) -> None:
    Path(tmp_path, "outer.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        outer = GlobalHydra.instance().hydra
        assert load_config().experiment == "digits"
        assert GlobalHydra.instance().hydra is outer
        assert compose("outer").x == 1
    assert not GlobalHydra.instance().is_initialized()


def test_it_can_be_called_again_and_from_threads() -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_config(["seed=5"])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [load_config(["seed=5"])] * 4


def test_a_folder_named_conf_in_the_working_directory_changes_nothing(
    workspace: Path,
) -> None:
    Path(workspace, "conf").mkdir()
    Path(workspace, "conf", "__init__.py").touch()
    code = (
        f"import sys; sys.path.append({str(REPOSITORY)!r})\n"
        "from trainer.config import load_config; print(load_config().experiment)\n"
    )
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.append({str(REPOSITORY)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "digits"


def test_a_bad_configuration_is_answered_at_once_and_without_torch() -> None:
    code = (
        "import sys\n"
        "from trainer.config import load_config\n"
        "from trainer.errors import ConfigError\n"
        "try:\n"
        "    load_config(['task.widht=3', 'optimizer=adm', 'batch.global_size=0'])\n"
        "except ConfigError as error:\n"
        "    print(len(error.faults))\n"
        "print([m for m in ('torch', 'ray', 'numpy') if m in sys.modules])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == ["3", "[]"]

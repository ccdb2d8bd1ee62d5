from __future__ import annotations

from pathlib import Path

import yaml

from tests.trainer.config.faults import only_fault
from trainer.config import AdamWTargetConfig, load_config
from trainer.config.catalogue import read_catalogue


def test_a_folder_of_ones_own_adds_options(tmp_path: Path) -> None:
    _write(tmp_path, "task/mine.yaml", {"_target_": "torch.nn.Linear", "z": 1})
    _write(
        tmp_path,
        "optimizer/fast.yaml",
        {"defaults": ["/schema/optimizer/adamw@_here_", "_self_"], "lr": 0.25},
    )
    _write(tmp_path, "logging/rare.yaml", {"every_steps": 1000})
    words = ["task=mine", "task.extra=2", "optimizer=fast", "logging=rare"]
    config = load_config(words, config_dirs=[str(tmp_path)])
    assert config.task == {"_target_": "torch.nn.Linear", "z": 1, "extra": 2}
    assert config.optimizer == AdamWTargetConfig(lr=0.25, betas=[0.9, 0.999])  # type: ignore[arg-type]
    assert config.logging.every_steps == 1000


def test_an_experiment_of_ones_own_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "# @package _global_\n"
        "defaults:\n  - override /task: custom\n  - _self_\n"
        "task:\n  _target_: torch.nn.Linear\n  width: 3\nseed: 9\n"
    )
    config = load_config([f"hydra.searchpath=[{tmp_path}]", "experiment=mine"])
    assert (config.experiment, config.seed) == ("mine", 9)
    assert config.task == {"_target_": "torch.nn.Linear", "width": 3}


def test_a_folder_with_blanks_and_quotes_in_its_name_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "it's my conf"
    _write(folder, "scaling/three.yaml", {"num_workers": 3})
    words = ["scaling=three", "batch.global_size=66"]
    config = load_config(words, config_dirs=[str(folder)])
    assert config.scaling.num_workers == 3


def test_an_option_that_a_shipped_one_would_hide_is_a_fault(tmp_path: Path) -> None:
    _write(tmp_path, "task/digits.yaml", {"_target_": "torch.nn.Linear"})
    fault = only_fault(config_dirs=[str(tmp_path)])
    assert fault.path == "--config-dir"
    assert "task/digits.yaml would never be read" in fault.rule
    assert "task=my_digits" in fault.remedy


def test_a_key_that_is_wrong_in_a_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "logging/rare.yaml", {"evry_steps": 1000})
    fault = only_fault("logging=rare", config_dirs=[str(tmp_path)])
    assert fault.path == "logging.evry_steps"
    assert "evry_steps" in fault.rule


def test_a_file_that_is_no_yaml_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "logging" / "broken.yaml"
    file.parent.mkdir()
    file.write_text("a: [1\n")
    fault = only_fault("logging=broken", config_dirs=[str(tmp_path)])
    assert "Hydra cannot compose this" in fault.rule


def test_a_missing_folder_is_a_fault_beside_the_others(tmp_path: Path) -> None:
    fault = only_fault(config_dirs=[str(tmp_path / "absent")])
    assert str(tmp_path / "absent") in str(fault)


def test_schemas_are_no_options() -> None:
    assert "schema" not in read_catalogue().options
    assert read_catalogue().options["task"] == [
        "custom",
        "digits",
        "stdlib_gpt",
        "supervised",
    ]


def _write(folder: Path, name: str, content: dict[str, object]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))

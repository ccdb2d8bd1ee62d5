from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

from trainer.config import TrainConfig, help_text
from trainer.config.catalogue import read_catalogue


def test_the_help_fits_a_terminal_and_names_every_group_and_option() -> None:
    text = help_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    for group, options in read_catalogue().options.items():
        assert f"  {group:<14}{', '.join(options)}" in text


def test_the_help_documents_every_key_with_its_default() -> None:
    lines = help_text().splitlines()
    for field in fields(TrainConfig):
        value = getattr(TrainConfig(), field.name)
        if field.name in ("experiment", "overrides"):
            continue
        if is_dataclass(value):
            names = [f"{field.name}.{nested.name}" for nested in fields(value)]
        else:
            names = [field.name]
        for name in names:
            (index,) = [
                number
                for number, line in enumerate(lines)
                if line.startswith((f"  {name}=", f"  {name} "))
                and number > lines.index(next(x for x in lines if x.startswith("keys")))
            ]
            head, _, documented = lines[index].strip().partition(" ")
            assert documented.strip() or lines[index + 1].startswith(" " * 32), head


def test_the_help_lists_the_users_options(tmp_path: Path) -> None:
    Path(tmp_path, "task").mkdir()
    Path(tmp_path, "task", "mine.yaml").write_text("_target_: a.B\n")
    assert "custom, digits, mine, stdlib_gpt" in help_text(config_dirs=[str(tmp_path)])


def test_the_help_shows_the_exit_codes_and_examples() -> None:
    text = help_text()
    assert "  75  interrupted" in text
    assert "torchrun --nproc-per-node 2 -m trainer" in text

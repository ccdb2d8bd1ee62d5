"""Which groups and options there are: the shipped folder and the user's folders.

Reads names of files only. Must never compose, nor know what an option means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import Fault

# Beside the package, in a checkout as in a wheel. Not the module `conf` by its name,
# because a user's own folder `conf` in the working directory would come first.
SHIPPED_DIR = Path(__file__).resolve().parents[2] / "conf"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The options of each group, and the user's folders that add to them."""

    options: dict[str, list[str]]  # group -> sorted names; a nested group as a/b
    config_dirs: tuple[str, ...] = ()  # absolute
    faults: tuple[Fault, ...] = ()


def read_catalogue(config_dirs: Sequence[str] = ()) -> Catalogue:
    """Returns every group and option; a folder that is missing becomes a fault."""
    owners = dict.fromkeys(_options_in(SHIPPED_DIR), "perennial")
    folders: list[str] = []
    faults: list[Fault] = []
    for config_dir in config_dirs:
        folder = os.path.abspath(os.path.expanduser(config_dir))
        if not os.path.isdir(folder):
            faults.append(_missing_folder(config_dir, folder))
            continue
        folders.append(folder)
        for option in _options_in(Path(folder)):
            owner = owners.setdefault(option, folder)
            if owner != folder:
                faults.append(_shadowed(option, folder, owner))
    options: dict[str, list[str]] = {}
    for group, name in sorted(owners):
        options.setdefault(group, []).append(name)
    return Catalogue(options, tuple(folders), tuple(faults))


def _options_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Gives (group, name) of every YAML file below `folder` that lies in a group."""
    for path in sorted(folder.rglob("*.yaml")):
        group = path.parent.relative_to(folder).as_posix()
        if group != ".":
            yield group, path.stem


def _missing_folder(config_dir: str, folder: str) -> Fault:
    return Fault(
        path="--config-dir",
        value=config_dir,
        rule=f"there is no folder {folder}",
        remedy="name a folder that holds groups, as in --config-dir my_conf with"
        " my_conf/task/mine.yaml",
    )


def _shadowed(option: tuple[str, str], folder: str, owner: str) -> Fault:
    group, name = option
    return Fault(
        path="--config-dir",
        value=folder,
        rule=f"its {group}/{name}.yaml would never be read, because {owner} has"
        " an option of that name",
        remedy=f"rename the file to my_{name}.yaml and type {group}=my_{name}",
    )

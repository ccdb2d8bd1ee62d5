"""The text of ``python -m trainer --help``, made from the schema and the options.

The documentation of a key is the comment beside its field: it stands once, where the
field does. Composes nothing, so that help is there at once.
"""

from __future__ import annotations

import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from typing import Any

from omegaconf import MISSING

from trainer.config import schema
from trainer.config.catalogue import read_catalogue

_WIDTH = 80
_KEYS = 32  # columns of key and default before the documentation

_USAGE = """\
usage: python -m trainer [--config-dir DIR] [group=option ...] [key=value ...]

Trains a model. Without words: experiment=digits, in this process. The same
words again continue a run that has a name. Words are Hydra's overrides.
"""

_EXAMPLES = """\
examples:
  python -m trainer
  python -m trainer experiment=stdlib_gpt name=gpt optimizer.lr=3e-4
  python -m trainer scaling=ray_2 name=two storage_url=s3://bucket/runs
  python -m trainer task._target_=my_pkg.MyTask task.width=64
  torchrun --nproc-per-node 2 -m trainer experiment=digits name=ranks
"""

_EXIT_CODES = """\
exit codes:
  0   done
  1   failed; one line names the cause, the rank, and what to do
  2   bad configuration; every fault with the word that mends it
  75  interrupted; start again with the same words to continue
"""


def help_text(*, config_dirs: Sequence[str] = ()) -> str:
    """Returns the help, 80 columns wide.

    Args:
        config_dirs: folders whose options are listed too.
    """
    sections = [_USAGE, "\n".join(_groups(config_dirs)), "\n".join(_keys())]
    return "\n".join([*sections, _EXAMPLES, _EXIT_CODES])


def _groups(config_dirs: Sequence[str]) -> Iterator[str]:
    yield "groups and their options:"
    for group, options in read_catalogue(config_dirs).options.items():
        yield _row(f"  {group}", ", ".join(options), column=16)
    yield ""


def _keys() -> Iterator[str]:
    yield "keys, their defaults and units (an experiment may set others):"
    docs = _comments()
    for field in fields(schema.TrainConfig):
        if field.name in ("experiment", "overrides"):
            continue
        default = _default(field)
        if is_dataclass(default):
            for nested in fields(default):
                doc = docs.get((type(default).__name__, nested.name), "")
                yield _key(f"{field.name}.{nested.name}", _default(nested), doc)
        else:
            doc = docs.get(("TrainConfig", field.name), "")
            yield _key(field.name, default, doc)
    yield ""


def _key(path: str, default: object, doc: str) -> str:
    shown = "" if default == MISSING else f"={_yaml(default)}"
    if isinstance(default, Enum):
        doc = f"{doc}: {', '.join(member.value for member in type(default))}"
    return _row(f"  {path}{shown}", doc, column=_KEYS)


def _row(head: str, text: str, *, column: int) -> str:
    indent = " " * column
    lines = textwrap.wrap(text, _WIDTH - column) or [""]
    if len(head) + 2 > column:
        return "\n".join([head, *(indent + line for line in lines)]).rstrip()
    lines[0] = head.ljust(column) + lines[0]
    return f"\n{indent}".join(lines).rstrip()


def _default(field: Field[Any]) -> Any:
    if field.default is not NO_DEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not NO_DEFAULT else None


def _yaml(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _comments() -> dict[tuple[str, str], str]:
    """Gives (class, field) -> the comment beside the field in the schema's source."""
    source = inspect.getsource(schema)
    found: dict[tuple[str, str], str] = {}
    owner = name = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        words = token.line.split()
        if token.type == tokenize.NAME and words[:1] == ["class"]:
            owner = words[1].split("(")[0].rstrip(":")
        elif token.type == tokenize.NAME and token.start[1] == 4:
            name = token.string
        elif token.type == tokenize.COMMENT and token.start[1] > 4:
            found[owner, name] = token.string.lstrip("# ")
    return found

"""Reads the imports and the shape of the sources and names what breaks the rules.

Owns the rules as data and the checks over a folder of sources; imports none of them.

An import inside a function, or only for types, counts like any other for the arrows
between packages and for the homes of vendors. Only for circles it does not: there what
counts is what runs when a module is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ARROWS: dict[str, set[str]] = {
    "checkpoints": set(),
    "trainer": {"checkpoints"},
    "tuning": {"trainer", "checkpoints"},
    "clusters": set(),
    "conf": set(),
}

# A home `x.py` may also be a folder `x/`, split by concept.
_HYDRA = {"*/config.py", "*/__main__.py", "tuning/space.py"}
_OPTUNA = {"tuning/space.py", "tuning/study.py", "tuning/samplers.py"}
_RAY = {
    "trainer/launch.py",
    "trainer/preemption.py",
    "tuning/lane.py",
    "tuning/tuner.py",
    "tuning/broker.py",
    "clusters/submit.py",
    "clusters/notices.py",
}
_S3 = {"checkpoints/storage.py"}
HOMES: dict[str, set[str]] = {
    "aiobotocore": _S3,
    "boto3": _S3,
    "botocore": _S3,
    "deepspeed": {"trainer/strategies/deepspeed.py"},
    "fsspec": _S3,
    "hydra": _HYDRA,
    "omegaconf": _HYDRA,
    "optuna": _OPTUNA,
    "ray": _RAY,
    "s3fs": _S3,
}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
HEAPS = {"utils.py", "helpers.py", "common.py", "misc.py"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import: what is imported where, and whether loading the module runs it."""

    target: str  # dotted; of `from a import b` both `a` and `a.b` may be meant
    name: str | None
    line: int
    runs_on_load: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A module: where it lies below the root, and what its text says."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        return self.path.parts[0]


def read_sources(root: Path, folders: Iterable[str]) -> list[Source]:
    """Returns all modules below the given folders of `root`."""
    paths = (path for folder in folders for path in (root / folder).rglob("*.py"))
    return [
        Source(path.relative_to(root), text, ast.parse(text, str(path)))
        for path in sorted(paths)
        for text in [path.read_text(encoding="utf-8")]
    ]


def find_faults(sources: list[Source]) -> list[str]:
    """Returns one line for everything that breaks a rule."""
    return [
        *find_wrong_arrows(sources),
        *find_homeless_vendors(sources),
        *find_circles(sources),
        *find_heaps(sources),
    ]


def find_wrong_arrows(sources: list[Source]) -> list[str]:
    """Returns the imports between packages that the architecture does not draw."""
    return [
        f"{source.path}:{item.line}: {source.package} may not import {target}"
        for source in sources
        for item in read_imports(source)
        for target in [item.target.split(".")[0]]
        if target in ARROWS.keys() | {"tests"} and target != source.package
        if target not in ARROWS[source.package]
    ]


def find_homeless_vendors(sources: list[Source]) -> list[str]:
    """Returns the imports of a vendor outside the files that are its home."""
    return [
        f"{source.path}:{item.line}: {vendor} is at home in {sorted(HOMES[vendor])}"
        for source in sources
        for item in read_imports(source)
        for vendor in [item.target.split(".")[0]]
        if vendor in HOMES and not _is_at_home(source.path, HOMES[vendor])
    ]


def find_circles(sources: list[Source]) -> list[str]:
    """Returns the circles among the imports that run when a module is loaded."""
    modules = {source.module for source in sources}
    graph: dict[str, list[str]] = {}
    for source in sources:
        targets = (
            _module_of(item, modules)
            for item in read_imports(source)
            if item.runs_on_load
        )
        graph[source.module] = [target for target in targets if target in modules]
    circle = _find_circle(graph)
    return [f"a circle of imports: {' -> '.join(circle)}"] if circle else []


def find_heaps(sources: list[Source]) -> list[str]:
    """Returns files and functions that are too long, and files named for no concept."""
    faults = []
    for source in sources:
        if source.path.name in HEAPS:
            faults.append(f"{source.path}: name it after what it owns")
        num_lines = len(source.text.splitlines())
        if num_lines > MAX_FILE_LINES:
            faults.append(f"{source.path}: {num_lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                faults += _check_length(source, node)
    return faults


def read_imports(source: Source) -> Iterator[Import]:
    """Yields every import of a module, `import_module("x")` included."""
    yield from _walk(source, source.tree, runs_on_load=True)


def _walk(source: Source, node: ast.AST, *, runs_on_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        yield from _read_import(source, child, runs_on_load=runs_on_load)
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for statement in child.body:
                wrapped = ast.Module([statement], [])
                yield from _walk(source, wrapped, runs_on_load=False)
            for statement in child.orelse:
                wrapped = ast.Module([statement], [])
                yield from _walk(source, wrapped, runs_on_load=runs_on_load)
            continue
        is_function = isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        yield from _walk(source, child, runs_on_load=runs_on_load and not is_function)


def _read_import(
    source: Source, node: ast.AST, *, runs_on_load: bool
) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield Import(alias.name, None, node.lineno, runs_on_load)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = _resolve(source, module, level)
            for alias in names:
                yield Import(base, alias.name, node.lineno, runs_on_load)
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
            called = getattr(function, "attr", getattr(function, "id", None))
            if called in {"import_module", "__import__"}:
                yield Import(name, None, node.lineno, runs_on_load)


def _resolve(source: Source, module: str | None, level: int) -> str:
    if level == 0:
        return module or ""
    base = source.path.parts[: len(source.path.parts) - level]
    return ".".join([*base, module] if module else base)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _is_at_home(path: Path, homes: set[str]) -> bool:
    patterns = homes | {f"{home.removesuffix('.py')}/*" for home in homes}
    return any(fnmatch(path.as_posix(), pattern) for pattern in patterns)


def _module_of(item: Import, modules: set[str]) -> str:
    submodule = f"{item.target}.{item.name}"
    return submodule if submodule in modules else item.target


def _find_circle(graph: dict[str, list[str]]) -> list[str]:
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in finished:
            return []
        for target in graph[module]:
            if circle := visit(target, [*trail, module]):
                return circle
        finished.add(module)
        return []

    return next((circle for module in graph if (circle := visit(module, []))), [])


def _check_length(
    source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef
) -> list[str]:
    num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if num_lines <= MAX_FUNCTION_LINES:
        return []
    return [
        f"{source.path}:{node.lineno}: {node.name} has {num_lines} lines, "
        f"at most {MAX_FUNCTION_LINES}"
    ]

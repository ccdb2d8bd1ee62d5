"""Turns the words that were typed into Hydra's overrides, and names what they imply.

Two kinds: a *choice* names an option of a group and goes to Hydra; a *value* sets one
key of what Hydra composed. Knows the catalogue of options, never the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    ValueType,
)
from hydra.errors import OverrideParseException

from trainer.config.catalogue import Catalogue, read_catalogue
from trainer.config.naming import listed, nearest
from trainer.config.redaction import redact_value
from trainer.errors import Fault

_SEARCH_PATH = "hydra.searchpath"
_FILLED_IN = {"overrides", "experiment"}  # set by load_config itself


@dataclass(slots=True)
class Words:
    """The words, sorted into what Hydra composes and what is set afterwards."""

    catalogue: Catalogue
    choices: list[str] = field(default_factory=list)  # in Hydra's own syntax
    values: list[Override] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    chosen: set[str] = field(default_factory=set)  # groups that the words name
    undecided: set[str] = field(default_factory=set)  # groups named with no such option


def read_words(typed: Sequence[str], config_dirs: Sequence[str]) -> Words:
    """Returns the words sorted, with a fault for each that cannot be understood."""
    parsed: list[Override] = []
    faults: list[Fault] = []
    folders = list(config_dirs)
    parser = OverridesParser.create()
    catalogue = read_catalogue()
    for word in typed:
        try:
            override = parser.parse_overrides([word])[0]
        except OverrideParseException:
            faults.append(_syntax_fault(word, catalogue))
            continue
        if override.is_sweep_override():
            faults.append(_sweep_fault(override))
        elif override.key_or_group == _SEARCH_PATH:
            folders += _searched(override, faults)
        elif override.is_hydra_override():
            faults.append(_hydra_fault(override))
        else:
            parsed.append(override)
    words = Words(read_catalogue(folders), faults=faults)
    words.faults += words.catalogue.faults
    for override in parsed:
        _sort(override, words)
    _add_implied_choices(words)
    return words


def typed_value(override: Override) -> str:
    """Returns what stands after the = of a word, as it was typed, without secrets."""
    text = (override.input_line or "").partition("=")[2]
    return str(redact_value(override.key_or_group, text))


def _sort(override: Override, words: Words) -> None:
    key = override.key_or_group
    is_group = key in words.catalogue.options
    if is_group and not isinstance(override.value(), dict):
        words.chosen.add(key)
        choice = _checked_choice(override, words)
        if choice is not None:
            words.choices.append(choice)
    elif key.partition(".")[0] in _FILLED_IN:
        words.faults.append(_filled_in_fault(override))
    elif override.package is not None or "/" in key:
        words.faults.append(_unknown_group(override, words.catalogue))
    else:
        words.values.append(override)


def _checked_choice(override: Override, words: Words) -> str | None:
    """Gives the word for Hydra; a misspelt option is a fault and read as the nearest.

    Reading on with the nearest option finds the faults of the other words too.
    """
    group = override.key_or_group
    options = words.catalogue.options[group]
    value = override.value()
    if override.is_delete() and value is None:
        return override.input_line
    names = [str(name) for name in (value if isinstance(value, list) else [value])]
    wrong = [name for name in names if name not in options]
    if not wrong:
        return override.input_line
    near = nearest(wrong[0], options)
    if value is None and "none" in options:
        near = "none"
    shown = "null" if value is None else wrong[0]
    words.faults.append(_unknown_option(group, shown, near, options))
    if near is None or len(names) > 1:
        words.undecided.add(group)
        return None
    return f"{override.get_key_element()}={near}"


def _add_implied_choices(words: Words) -> None:
    """A target of one's own implies `custom`; a task implies no shipped experiment."""
    targets = {
        value.key_or_group.removesuffix("._target_")
        for value in words.values
        if value.key_or_group.endswith("._target_") or _holds_target(value)
    }
    for group in ("task", "optimizer"):
        if group in targets - words.chosen:
            words.choices.append(f"{group}=custom")
            words.chosen.add(group)
    if "task" in words.chosen and "experiment" not in words.chosen:
        words.choices.append("experiment=none")


def _holds_target(override: Override) -> bool:
    value = override.value()
    return isinstance(value, dict) and "_target_" in value


def _searched(override: Override, faults: list[Fault]) -> list[str]:
    entries = override.value()
    folders = [
        str(entry).removeprefix("file://")
        for entry in (entries if isinstance(entries, list) else [])
        if not str(entry).startswith("pkg://")
    ]
    if not isinstance(entries, list) or len(folders) < len(entries):
        fault = Fault(
            path=_SEARCH_PATH,
            value=typed_value(override),
            rule="must be a list of folders",
            remedy=f"set {_SEARCH_PATH}=[my_conf], or type --config-dir my_conf",
        )
        faults.append(fault)
    return folders


def _syntax_fault(word: str, catalogue: Catalogue) -> Fault:
    key, equals, text = word.partition("=")
    if not equals:
        owners = [g for g, options in catalogue.options.items() if word in options]
        return Fault(
            path=word,
            value="",
            rule="a word is key=value",
            remedy=f"type {owners[0]}={word}" if owners else f"type {word}=VALUE",
        )
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')
    return Fault(
        path=key,
        value=redact_value(key, text),
        rule="is not in Hydra's grammar: a value with blanks or special characters"
        " must be quoted, and quoted once more for the shell",
        remedy=f"type \"{key}='{redact_value(key, quoted)}'\"",
    )


def _sweep_fault(override: Override) -> Fault:
    key, text = override.key_or_group, typed_value(override)
    is_plain_list = override.value_type is ValueType.SIMPLE_CHOICE_SWEEP
    listing = f", or for a list {key}=[{text}]" if is_plain_list else ""
    return Fault(
        path=key,
        value=text,
        rule="is a sweep, and a run needs one value; python -m tuning takes sweeps",
        remedy=f"set {key}={_first_of(override.value())}{listing}",
    )


def _first_of(sweep: object) -> object:
    if isinstance(sweep, ChoiceSweep):
        first: object = sweep.list[0]
        return first.text if isinstance(first, QuotedString) else first
    if isinstance(sweep, IntervalSweep | RangeSweep):
        return sweep.start
    return "VALUE"


def _hydra_fault(override: Override) -> Fault:
    return Fault(
        path=override.key_or_group,
        value=typed_value(override),
        rule=f"of Hydra's own settings only {_SEARCH_PATH} has an effect here",
        remedy=f"leave the word out, or set {_SEARCH_PATH}=[my_conf]",
    )


def _filled_in_fault(override: Override) -> Fault:
    key = override.key_or_group.partition(".")[0]
    return Fault(
        path=override.key_or_group,
        value=typed_value(override),
        rule=f"{key} is filled in by the program",
        remedy="leave the word out, or choose with experiment=none",
    )


def _unknown_group(override: Override, catalogue: Catalogue) -> Fault:
    group = override.key_or_group
    near = nearest(group, catalogue.options)
    hint = f"type {near}={typed_value(override)}" if near else "choose one of them"
    return Fault(
        path=group,
        value=typed_value(override),
        rule=f"there is no such group; the groups are {listed(catalogue.options)}",
        remedy=hint,
    )


def _unknown_option(
    group: str, wrong: str, near: str | None, options: list[str]
) -> Fault:
    return Fault(
        path=group,
        value=wrong,
        rule=f"there is no such option; the options are {listed(options)}",
        remedy=f"type {group}={near or options[0]}",
    )

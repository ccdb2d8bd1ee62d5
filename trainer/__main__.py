"""`python -m trainer [overrides]`: words in, a trained model and an exit code out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import yaml

from trainer.config import TrainConfig, help_text, load_config, to_dict
from trainer.errors import ConfigError, TrainerError
from trainer.result import Status, TrainResult

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2
EXIT_INTERRUPTED = 75


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        words: the command line; those of this process by default.
    """
    options = _parse(words)
    if options.help:
        print(help_text(), flush=True)
        return EXIT_DONE
    try:
        config = load_config(options.overrides, config_dirs=options.config_dir)
        if options.cfg:
            print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
            return EXIT_DONE
        return _train(config)
    except ConfigError as error:
        _complain(error)
        return EXIT_BAD_CONFIG
    except TrainerError as error:
        print(f"failed: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted before the first step", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m trainer", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(words)


def _complain(error: ConfigError) -> None:
    number = len(error.faults)
    print(f"{number} fault{'s' * (number != 1)} in the configuration:", file=sys.stderr)
    for fault in error.faults:
        print(f"  {fault}", file=sys.stderr)


def _train(config: TrainConfig) -> int:
    from trainer.launch import train  # torch is loaded only for a good configuration

    result = train(config)
    from trainer.distributed import launched_rank

    if launched_rank() == 0:
        _report(result)
    return EXIT_INTERRUPTED if result.status is Status.PREEMPTED else EXIT_DONE


def _report(result: TrainResult) -> None:
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    print(f"{result.status}  step {result.step}  {metrics}")
    if result.status is Status.PREEMPTED:
        print(f"the same words with name={result.name} continue it")
    print(f"result   {result.run_url}/result.json")
    print(f"metrics  {result.run_url}/metrics.jsonl")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)

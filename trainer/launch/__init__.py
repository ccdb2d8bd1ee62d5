"""Starts the ranks of a run: in this process, as torchrun gave them, or on Ray."""

from trainer.launch.entry import train

__all__ = ["train"]

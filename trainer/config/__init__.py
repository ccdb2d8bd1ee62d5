"""The configuration of a run: typed schema, words, rules, and what is built from it.

Owns everything between the words that a user types and a `TrainConfig`. It must never
import torch or Ray, nor a user's module before that is to be built.
"""

from trainer.config.compose import load_config
from trainer.config.environment import is_torchrun
from trainer.config.help import help_text
from trainer.config.plain import difference, is_allowed_to_change, to_dict
from trainer.config.redaction import redact_value, redact_words
from trainer.config.rules import check
from trainer.config.schema import (
    AdamTargetConfig,
    AdamWTargetConfig,
    BatchConfig,
    ByteGptTargetConfig,
    CheckpointConfig,
    DdpTargetConfig,
    DigitsTargetConfig,
    DurationConfig,
    EarlyStoppingConfig,
    EvaluationConfig,
    LoaderConfig,
    LoggingConfig,
    LrScheduleConfig,
    Mode,
    Precision,
    RecoveryConfig,
    Resume,
    ScalingConfig,
    Schedule,
    SgdTargetConfig,
    SingleTargetConfig,
    StartMethod,
    SupervisedTargetConfig,
    TrainConfig,
    Verify,
)
from trainer.config.targets import instantiate

__all__ = [
    "AdamTargetConfig",
    "AdamWTargetConfig",
    "BatchConfig",
    "ByteGptTargetConfig",
    "CheckpointConfig",
    "DdpTargetConfig",
    "DigitsTargetConfig",
    "DurationConfig",
    "EarlyStoppingConfig",
    "EvaluationConfig",
    "LoaderConfig",
    "LoggingConfig",
    "LrScheduleConfig",
    "Mode",
    "Precision",
    "RecoveryConfig",
    "Resume",
    "ScalingConfig",
    "Schedule",
    "SgdTargetConfig",
    "SingleTargetConfig",
    "StartMethod",
    "SupervisedTargetConfig",
    "TrainConfig",
    "Verify",
    "check",
    "difference",
    "help_text",
    "instantiate",
    "is_allowed_to_change",
    "is_torchrun",
    "load_config",
    "redact_value",
    "redact_words",
    "to_dict",
]

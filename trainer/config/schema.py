"""The typed schema of ``python -m trainer``: every field, its default and its unit.

Holds choices only. Cross-field rules live in ``rules.py``; composing from YAML and
words lives in ``compose.py``. Must never import torch or Ray, because a bad
configuration is answered before either is loaded.

A *target node* (``task``, ``optimizer``, ``strategy``, each value of ``callbacks``)
names a class by ``_target_`` and carries its keyword arguments. Ours are the typed
``*TargetConfig`` classes below; a user's own is a plain dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Resume(Enum):
    """What to do when the run's folder already holds a run."""

    auto = "auto"  # continue it when it is there, start it when it is not
    required = "required"  # fail when there is no checkpoint to continue from
    never = "never"  # fail when the folder already holds a run


class Precision(Enum):
    """Arithmetic of the forward and backward pass; the weights stay fp32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"  # with dynamic loss scaling


class Mode(Enum):
    """Whether a smaller or a larger metric is better."""

    min = "min"
    max = "max"


class Verify(Enum):
    """How much of a checkpoint is checked before it is trusted."""

    full = "full"  # sizes and every checksum
    sizes = "sizes"  # sizes only


class Schedule(Enum):
    """Shape of the learning rate after warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class StartMethod(Enum):
    """How loader processes start; multiprocessing's names."""

    forkserver = "forkserver"  # from a clean process; data sets must pickle
    spawn = "spawn"  # the same, slower
    fork = "fork"  # nothing need pickle; may hang beside the threads of gloo or CUDA


@dataclass(kw_only=True, slots=True)
class DigitsTargetConfig:
    """A small convolutional network on scikit-learn's handwritten digits."""

    _target_: str = "trainer.tasks.digits.DigitsTask"
    width: int = 32  # channels of the first convolution; the second has twice as many
    dropout: float = 0.1  # probability in [0, 1)
    eval_fraction: float = 0.2  # share of the samples that are held out, in (0, 1)


@dataclass(kw_only=True, slots=True)
class ByteGptTargetConfig:
    """A byte-level, decoder-only transformer on a corpus of text files."""

    _target_: str = "trainer.tasks.byte_gpt.ByteGptTask"
    files: str | None = None  # glob, local or an fsspec URL; null: the standard library
    files_options: dict[str, Any] = field(default_factory=dict)  # fsspec options
    cache_dir: str | None = None  # null: ~/.cache/perennial
    eval_fraction: float = 0.05  # share of the corpus that is held out, in (0, 1)
    context_length: int = 128  # bytes a sample spans
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128  # embedding size; a multiple of num_heads
    dropout: float = 0.1  # probability in [0, 1)


@dataclass(kw_only=True, slots=True)
class SupervisedTargetConfig:
    """Any model, data set, loss and metric, each named by ``_target_``."""

    _target_: str = "trainer.tasks.supervised.SupervisedTask"
    _recursive_: bool = False  # the task builds its parts, when their turn comes
    model: Any = MISSING  # target node that builds the torch.nn.Module
    train_data: Any = MISSING  # target node that builds the map-style training data set
    eval_data: Any = None  # the same for the held-out data; null: no evaluation
    loss: Any = None  # target node, called as loss(output, target); null: output.loss
    metrics: dict[str, Any] = field(default_factory=dict)  # name -> target node
    output_key: str | None = None  # attribute or key of the model's output to use
    target_key: str | None = None  # key of a batch (a dict) that is the target


@dataclass(kw_only=True, slots=True)
class SgdTargetConfig:
    """Stochastic gradient descent."""

    _target_: str = "torch.optim.SGD"
    lr: float = 0.1  # peak learning rate
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(kw_only=True, slots=True)
class AdamTargetConfig:
    """Adam."""

    _target_: str = "torch.optim.Adam"
    lr: float = 1e-3  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(kw_only=True, slots=True)
class AdamWTargetConfig:
    """Adam with decoupled weight decay."""

    _target_: str = "torch.optim.AdamW"
    lr: float = 1e-3  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01


@dataclass(kw_only=True, slots=True)
class SingleTargetConfig:
    """One process, no wrapper."""

    _target_: str = "trainer.strategies.single.SingleStrategy"


@dataclass(kw_only=True, slots=True)
class DdpTargetConfig:
    """torch's DistributedDataParallel; on one worker it adds nothing."""

    _target_: str = "trainer.strategies.ddp.DdpStrategy"
    bucket_cap_mb: float = 25.0  # size of a gradient bucket in MiB
    find_unused_parameters: bool = False
    static_graph: bool = False


@dataclass(kw_only=True, slots=True)
class LrScheduleConfig:
    """The factor on the peak learning rate, a function of the step alone."""

    schedule: Schedule = Schedule.constant  # shape after the warm-up
    warmup_steps: int = 0  # steps of linear rise from 0
    decay_steps: int | None = None  # step at which the decay ends; null: the last step
    final_factor: float = 0.0  # factor at the end of the decay, in [0, 1]


@dataclass(kw_only=True, slots=True)
class ScalingConfig:
    """Who does the work."""

    num_workers: Any = 0  # 0: this process; n: Ray workers; [min, max]: elastic
    use_gpu: bool = False  # one GPU a worker
    resources_per_worker: dict[str, float] = field(default_factory=dict)  # as Ray's
    threads_per_worker: int | None = None  # null: OMP_NUM_THREADS, or shared cores


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """How many samples make one optimizer step."""

    global_size: int = 64  # samples a step over all workers
    micro_size: int | None = None  # samples a rank holds at once; null: its whole share


@dataclass(kw_only=True, slots=True)
class DurationConfig:
    """When training ends: whichever comes first of those that are not null."""

    max_steps: int | None = None  # optimizer steps
    max_epochs: int | None = None  # passes over the training data
    max_samples: int | None = None  # training samples
    max_time_s: float | None = None  # seconds in the loop, over all restarts


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """When the held-out data is evaluated; always once more at the end."""

    every_steps: int | None = None  # null: only at the end
    micro_size: int | None = None  # samples a rank holds at once; null: as in training


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """When state is saved and which checkpoints are kept; always one at the end."""

    every_steps: int | None = 100  # null: not by steps
    every_s: float | None = None  # seconds since the last save; null: not by time
    keep_latest: int = 2  # newest checkpoints that stay
    keep_best: int = 1  # best checkpoints by `metric` that stay; without one, none
    metric: str | None = None  # for example eval/loss; also drives early stopping
    mode: Mode = Mode.min  # which `metric` is better
    verify: Verify = Verify.full  # what is checked before a checkpoint is restored


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """End the run when `checkpoint.metric` no longer improves."""

    patience: int | None = None  # evaluations without improvement; null: never stop
    min_delta: float = 0.0  # smallest change that counts as an improvement


@dataclass(kw_only=True, slots=True)
class RecoveryConfig:
    """What Ray Train does after a failed worker."""

    max_failures: int = 3  # restarts of the workers after a failure


@dataclass(kw_only=True, slots=True)
class LoaderConfig:
    """How a rank reads its samples."""

    num_workers: int = 0  # loader processes a rank; 0: in the rank itself
    prefetch_factor: int = 2  # micro-batches that each loader process holds ready
    start_method: StartMethod = StartMethod.forkserver  # of loader processes
    pin_memory: bool = False  # page-locked host memory, for a GPU


@dataclass(kw_only=True, slots=True)
class LoggingConfig:
    """What is written while the run goes on."""

    every_steps: int = 10  # steps between two lines of training metrics
    console: bool = True  # progress on standard error
    tensorboard: bool = False  # event files in <run>/tensorboard
    mlflow: bool = False  # metrics to an MLflow tracking server
    mlflow_tracking_uri: str | None = None  # null: that of MLFLOW_TRACKING_URI
    samples: bool = False  # debug: sample indices of each step to samples.jsonl


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """Everything that ``python -m trainer`` reads, resolved."""

    name: str | None = None  # the run's folder; null: made from experiment and time
    storage_url: str = "runs"  # any fsspec URL
    storage_options: dict[str, Any] = field(default_factory=dict)  # fsspec options
    resume: Resume = Resume.auto  # what to do with a run of that name that is there
    resume_allow: list[str] = field(default_factory=list)  # keys that may change then
    seed: int = 0  # of the weights, the order of samples and everything drawn
    experiment: str | None = None  # the choice that was made; filled by load_config
    overrides: list[str] = field(default_factory=list)  # words; filled by load_config

    task: Any = MISSING  # target node: what is trained
    optimizer: Any = MISSING  # target node with `lr`
    strategy: Any = MISSING  # target node: how the workers train as one
    callbacks: dict[str, Any] = field(default_factory=dict)  # name -> target node
    lr_schedule: LrScheduleConfig = field(default_factory=LrScheduleConfig)
    precision: Precision = Precision.fp32  # of the forward and backward pass
    compile: bool = False  # the model by torch.compile
    activation_checkpointing: list[str] = field(default_factory=list)  # module classes
    clip_grad_norm: float | None = None  # largest norm of the global gradient

    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    duration: DurationConfig = field(default_factory=DurationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

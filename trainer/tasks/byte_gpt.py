"""A byte-level GPT: a decoder-only transformer on the bytes of a corpus.

Owns the model and its loss; the data is `corpus`'. Must never know ranks, devices or
checkpoints.

Shape suffixes: B batch, T positions (at most context_length), D width, H heads,
K width of a head, V vocabulary (256 bytes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import ConfigError, Fault
from trainer.task import DataSets, TrainTask
from trainer.tasks.corpus import CorpusData

VOCABULARY_SIZE = 256

_INIT_STD = 0.02


class ByteGptTask(TrainTask):
    """Predicts the next byte of text files.

    Args:
        files: a glob, local or an fsspec URL; null: the standard library's source.
        files_options: fsspec options.
        cache_dir: folder of prepared corpora; null: `~/.cache/perennial`.
        eval_fraction: share of the corpus that is held out, in (0, 1).
        context_length: bytes that a sample spans, at least 1.
        num_layers: transformer blocks, at least 1.
        num_heads: attention heads, at least 1.
        width: embedding size; a multiple of num_heads.
        dropout: probability in [0, 1).

    Raises:
        ConfigError: an argument breaks its rule; names all of them.
    """

    metric_names = ("loss", "bits_per_byte")

    def __init__(
        self,
        *,
        files: str | None = None,
        files_options: Mapping[str, object] | None = None,
        cache_dir: str | None = None,
        eval_fraction: float = 0.05,
        context_length: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        width: int = 128,
        dropout: float = 0.1,
    ) -> None:
        sizes = {
            "context_length": context_length,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "width": width,
        }
        faults = _faults(sizes, eval_fraction, dropout)
        if faults:
            raise ConfigError(faults)
        self._files = files
        self._files_options = files_options
        self._cache_dir = cache_dir
        self._eval_fraction = eval_fraction
        self._sizes = sizes
        self._dropout = dropout

    def build_model(self) -> nn.Module:
        return ByteGpt(dropout=self._dropout, **self._sizes)

    def build_datasets(self) -> DataSets:
        train = CorpusData(
            "train",
            files=self._files,
            files_options=self._files_options,
            cache_dir=self._cache_dir,
            context_length=self._sizes["context_length"],
            eval_fraction=self._eval_fraction,
        )
        return DataSets(train=train, eval=train.part("eval"))

    def compute_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs_BT, targets_BT = batch
        logits_BTV = model(inputs_BT)
        # In float32 also under autocast: a sum over many small terms.
        return functional.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten()
        )

    def evaluate_batch(
        self, model: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> Mapping[str, Tensor | float]:
        loss = self.compute_loss(model, batch)
        return {"loss": loss, "bits_per_byte": loss / math.log(2)}

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        # Weight decay is for matrices: on biases and norms it only shifts outputs.
        parameters = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]


class ByteGpt(nn.Module):
    """A pre-norm transformer with learned positions and tied embeddings.

    Initialised as GPT-2: normal(0, 0.02), the projections into the residual stream
    divided by sqrt(2 * num_layers) (Radford et al., 2019, section 2.3).
    """

    def __init__(
        self,
        *,
        context_length: int,
        num_layers: int,
        num_heads: int,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.byte_embedding = nn.Embedding(VOCABULARY_SIZE, width)
        self.position_embedding = nn.Embedding(context_length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, num_heads, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            for projection in (block.attention.project_out, block.project_down):
                std = _INIT_STD / math.sqrt(2 * num_layers)
                nn.init.normal_(projection.weight, std=std)

    def forward(self, bytes_BT: Tensor) -> Tensor:
        """Returns the logits of the next byte at every position, logits_BTV."""
        num_positions = bytes_BT.shape[1]
        positions_TD = self.position_embedding.weight[:num_positions]
        x_BTD = self.dropout(self.byte_embedding(bytes_BT) + positions_TD)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        x_BTD = self.norm(x_BTD)
        logits_BTV: Tensor = functional.linear(x_BTD, self.byte_embedding.weight)
        return logits_BTV


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each added to the residual stream."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, num_heads, dropout)
        self.perceptron_norm = nn.LayerNorm(width)
        self.project_up = nn.Linear(width, 4 * width)
        self.project_down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        hidden = functional.gelu(self.project_up(self.perceptron_norm(x_BTD)))
        x_BTD = x_BTD + self.dropout(self.project_down(hidden))
        return x_BTD


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_dropout = dropout
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        projected = self.project_in(x_BTD).unflatten(-1, (3, self.num_heads, -1))
        query_BHTK, key_BHTK, value_BHTK = projected.permute(2, 0, 3, 1, 4)
        attended_BHTK = functional.scaled_dot_product_attention(
            query_BHTK,
            key_BHTK,
            value_BHTK,
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=True,
        )
        joined_BTD = attended_BHTK.transpose(1, 2).flatten(2)
        out_BTD: Tensor = self.dropout(self.project_out(joined_BTD))
        return out_BTD


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=_INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _faults(
    sizes: Mapping[str, int], eval_fraction: float, dropout: float
) -> list[Fault]:
    faults = [
        _fault(key, size, "must be >= 1", 4 if key.startswith("num_") else 128)
        for key, size in sizes.items()
        if size < 1
    ]
    width, num_heads = sizes["width"], sizes["num_heads"]
    if num_heads >= 1 and width % num_heads:
        rule = f"must be a multiple of task.num_heads={num_heads}"
        nearest = max(1, round(width / num_heads)) * num_heads
        faults.append(_fault("width", width, rule, nearest))
    if not 0 < eval_fraction < 1:
        rule = "must be between 0 and 1"
        faults.append(_fault("eval_fraction", eval_fraction, rule, 0.05))
    if not 0 <= dropout < 1:
        faults.append(_fault("dropout", dropout, "must be in [0, 1)", 0.1))
    return faults


def _fault(key: str, value: object, rule: str, remedy: object) -> Fault:
    return Fault(f"task.{key}", value, rule, f"set task.{key}={remedy}")

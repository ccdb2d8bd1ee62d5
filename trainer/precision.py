"""Arithmetic of the forward and backward pass: fp32, bf16 or fp16 by autocast.

Weights, gradients and optimizer state stay fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from trainer.config import Precision

_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


class MixedPrecision:
    """Autocast for a device, and for fp16 the dynamic loss scale that it needs.

    Args:
        precision: the configuration's choice.
        device: where the model is.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._dtype = _DTYPES.get(precision)
        self._device_type = device.type
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=precision is Precision.fp16
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context for a forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, self._dtype)

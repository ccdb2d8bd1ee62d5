"""How a model, its gradients and its optimizer are spread over the ranks."""

from trainer.strategies.contract import Setup, Strategy

__all__ = ["Setup", "Strategy"]

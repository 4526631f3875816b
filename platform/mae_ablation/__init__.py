"""Ablation studies of masked autoencoders that can be trusted."""

from mae_ablation.registry import register

__all__ = ["register"]
__version__ = "0.1.0"

"""Ablation studies of masked autoencoders that can be trusted."""

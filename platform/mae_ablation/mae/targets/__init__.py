"""Targets are what the decoder predicts (paper, Table 1d): modules that register them."""

"""What the decoder predicts (paper, Table 1d): a module for each registered target."""

"""Which patches are removed (paper, Table 1f): a module for each registered sampler."""

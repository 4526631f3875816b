"""How training images are changed (paper, Table 1e): a module for each registered augmentation."""

"""Five components of a lab's own; importing this module registers them."""

from lab import centre, centroid, hog, npz, registers

__all__ = ["centre", "centroid", "hog", "npz", "registers"]

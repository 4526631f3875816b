"""What encodes the visible patches: a module for each registered encoder."""

"""Measurements of what we claim about speed: `python -m tests.bench --help`, in a clone.

Peers are imported here and nowhere else: `pip install -e '.[bench]'`, best into an environment of
its own.
"""

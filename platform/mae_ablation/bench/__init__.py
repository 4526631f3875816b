"""Measurements against what one would do otherwise: `python -m mae_ablation.bench --help`.

Peers are imported here alone, and only by what measures them: `pip install -e '.[bench]'`.
"""

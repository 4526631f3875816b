"""Commit of the code at work: every number in a table names it."""

import os
import subprocess
from pathlib import Path


def code_commit() -> str:
    """Short commit, with "+changes" if the code or the studies differ from it; else "unknown".

    Code that was shipped to a cluster has no history: whoever shipped it has said its commit.
    """
    if told := os.environ.get("MAE_ABLATION_COMMIT"):
        return told
    # documents and reports may differ, what makes numbers may not
    root = Path(__file__).parents[2]
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    if commit is None:
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--", "platform", "studies", "pyproject.toml")
    return f"{commit}+changes" if changed else commit


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

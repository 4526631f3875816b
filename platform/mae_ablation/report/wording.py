"""Words that many sentences of plans and reports have in common."""

from collections.abc import Sequence


def count_noun(n: int, noun: str) -> str:
    """Format "1 seed", "2 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def list_names(names: Sequence[str], most: int = 20) -> str:
    """List names in a line: all of them, or the first and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

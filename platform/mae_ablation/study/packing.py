"""Packing: when so many lanes are done with trials that they take one after the other.

Dividing the sum by the number of lanes is too short: the last trials leave lanes idle, and a trial
waits for the tokeniser it needs.
"""

import heapq
from collections.abc import Sequence


def makespan(
    seconds: Sequence[float],
    lanes: int,
    *,
    needs: dict[int, int] | None = None,
    busy: Sequence[float] = (),
) -> float:
    """Seconds until the last trial has ended, each lane taking the first one that can start.

    Args:
        seconds: of each trial, in the order of the queue.
        needs: by number the trial that has to have ended first.
        busy: seconds for which lanes are at work already.
    """
    needs = needs or {}
    free = sorted([*busy, *[0.0] * (lanes - len(busy))])  # sorted lists are heaps
    ended: dict[int, float] = {}
    ready = [(0.0, number) for number in range(len(seconds)) if number not in needs]
    blocked: dict[int, list[int]] = {}
    for number, first in needs.items():
        blocked.setdefault(first, []).append(number)
    while ready:
        now = heapq.heappop(free)
        start, number = heapq.heappop(ready)
        ended[number] = max(now, start) + seconds[number]
        heapq.heappush(free, ended[number])
        for other in blocked.get(number, ()):
            heapq.heappush(ready, (ended[number], other))
    return max([*ended.values(), *busy], default=0.0)

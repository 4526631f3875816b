"""Seeds beyond a look of a growing study wait in the queue until rows ask for them.

Which phases are asked for is decided elsewhere (`ask`), from the store alone. So a driver that is
killed and started again comes to the same decisions.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mae_ablation.run.run_state import RunState
from mae_ablation.study.trial import Trial
from mae_ablation.study.work import Asked, Told

Ask = Callable[[frozenset[str]], Asked]
"""says what is asked for by now; takes the identities of phases in trials that failed"""


class SeedGate:
    """Has the queue hand out or drop trials, as rows are decided.

    Args:
        trials: as the queue numbers them.
        ask: asked at the start, and after every trial that ends. An OSError of the store is tried
            again.
    """

    def __init__(self, trials: Sequence[Trial], ask: Ask) -> None:
        self._identities = {
            number: frozenset(trial.result_id)
            for number, trial in enumerate(trials)
            if trial.source != "prepare"
        }
        self._ask = ask
        self._told: set[Told] = set()
        self._ended = 0  # trials, when it was last asked
        self._dropped: set[int] = set()
        self._first: Asked | None = ask(frozenset())
        self._held = {n for n in self._identities if not self._is_among(n, self._first.now)}

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait for a look."""
        return frozenset(self._held)

    def follow(self, queue: Any, state: RunState, say: Callable[[str], None]) -> None:
        """Ask what is wanted if a trial has ended since, and have the queue do it.

        `say`: told what each look decided.
        """
        # each time: the queue may have been started again
        if lost := self._dropped - state.ended.keys():
            queue.drop.remote(sorted(lost))

        # what is asked for by now
        if self._first is not None:
            asked, self._first = self._first, None
        elif len(state.ended) == self._ended:
            return
        else:
            stuck = [self._identities.get(number, ()) for number in state.failed]
            try:
                asked = self._ask(frozenset().union(*stuck))
            except OSError:
                return
            self._ended = len(state.ended)
        for line in (line for key, line in asked.lines.items() if key not in self._told):
            say(line)
        self._told.update(asked.lines)

        # the rest waits for a later look, or is over
        waiting = self._identities.keys() - state.ended.keys() - self._dropped
        now = {n for n in waiting if self._is_among(n, asked.now)}
        later = {n for n in waiting - now if self._is_among(n, asked.later)}
        if released := sorted(self._held & now):
            queue.release.remote(released)
        if over := sorted(waiting - now - later):
            self._dropped.update(over)
            queue.drop.remote(over)
        self._held = (self._held & later) - now
        state.held = self.held | self._dropped - state.ended.keys()

    def _is_among(self, number: int, identities: frozenset[str]) -> bool:
        """Tell if one of a trial's phases is among some."""
        return not self._identities[number].isdisjoint(identities)

"""Remaining: how long a run still takes: the plan's estimate, corrected by what was measured."""

import time
from collections.abc import Mapping, Sequence

from mae_ablation.run.tally import Tally
from mae_ablation.study.packing import makespan
from mae_ablation.study.trial import Trial


class Remaining:
    """Watches trials start and end.

    Args:
        seconds: estimated, by identity of a phase.
    """

    def __init__(self, trials: Sequence[Trial], seconds: Mapping[str, float]) -> None:
        self._seconds = [
            sum(seconds.get(phase.identity, 0.0) for phase in trial.phases) for trial in trials
        ]
        self._began: dict[int, float] = {}
        self._took = self._expected = 0.0  # of the trials that have been seen to start and finish
        self._finished = 0

    def watch(self, tally: Tally, now: float | None = None) -> None:
        """Take note of what has started and finished. `now`: seconds of a clock of one's own."""
        now = time.monotonic() if now is None else now
        for lease in tally.running.values():
            self._began.setdefault(lease.number, now)
        for number in tally.finished[self._finished :]:
            if number in self._began:
                self._took += now - self._began[number]
                self._expected += self._seconds[number]
        self._finished = len(tally.finished)

    @property
    def factor(self) -> float:
        """Measured over estimated seconds; an ordinary trial's estimate has a say, too, so that the
        first one's is not all."""
        usual = sum(self._seconds) / len(self._seconds) if self._seconds else 0.0
        whole = self._expected + usual
        return (self._took + usual) / whole if whole else 1.0

    def left(self, tally: Tally, now: float | None = None) -> float | None:
        """Seconds until the last trial ends that is asked for; None where nothing was estimated."""
        if not any(self._seconds):
            return None
        now = time.monotonic() if now is None else now
        at_work = {lease.number: lease.progress for lease in tally.running.values()}
        rests = [self._rest(number, progress, now) for number, progress in at_work.items()]
        waiting = [
            self.factor * seconds
            for number, seconds in enumerate(self._seconds)
            if number not in tally.ended and number not in at_work and number not in tally.held
        ]
        return makespan(waiting, max(tally.live, len(rests), 1), busy=rests)

    def _rest(self, number: int, progress: dict, now: float) -> float:
        """Of a trial at work: as estimated, but never less than its phase itself says."""
        passed = now - self._began.get(number, now)
        return max(self.factor * self._seconds[number] - passed, progress.get("seconds_left", 0.0))

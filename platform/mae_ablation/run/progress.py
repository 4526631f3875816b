"""Live progress: a table that redraws itself on a terminal, a plain line now and then else."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mae_ablation.run.lane_pool import slot_of
from mae_ablation.run.queue import Lease
from mae_ablation.run.run_state import RunState
from mae_ablation.store.folder import Store
from mae_ablation.study.estimate import makespan
from mae_ablation.study.trial import Trial

PLAIN_EVERY_S = ((60, 10), (600, 30), (3600, 120), (float("inf"), 600))
"""until so many seconds have passed, a line every so many: a night's log stays readable"""
STARTING = "starting Ray and the lanes ..."
WIDE, BESIDE = 100, 38  # columns of a terminal with room for all; those beside the trial's else
COLUMNS = ("lane", "trial", "phase", "epoch", "", "loss", "images/s", "left")
COLUMNS_IF_NARROW = ("lane", "trial", "phase", "epoch", "left")


def duration(seconds: float) -> str:
    """Write seconds as a clock does: 75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Progress:
    """Shows how a study and its trials stand while they run.

    Args:
        trials: those to run.
        done: number of others that are finished in the store already.
        seconds: estimated, by identity of a phase; the time left is corrected by what is measured.
        store: where a failed trial's reason lies.
    """

    def __init__(
        self,
        console: Console,
        trials: Sequence[Trial],
        *,
        done: int = 0,
        seconds: Mapping[str, float] | None = None,
        store: Store | None = None,
    ) -> None:
        self._console, self._trials, self._done, self._store = console, trials, done, store
        self._remaining = RemainingTime(trials, seconds or {})
        self._began = time.monotonic()
        self._told_at: float | None = None
        self._told: set[int] = set()  # trials whose end has been told
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
            self._live.update(STARTING)
        else:
            self._console.print(STARTING)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        self._console.print(line)

    def show(self, state: RunState) -> None:
        # what has ended, and the time that is left by what it took
        self._remaining.watch(state)
        headline = self._headline(state)
        # each end is told once, with what to read where it failed
        for number in [n for n in (*state.finished, *state.failed) if n not in self._told]:
            self._told.add(number)
            if number not in state.failed:
                self.say(f"{headline}  finished {state.label(number)}")
                continue
            self.say(f"{headline}  FAILED {state.label(number)}: {state.failed[number]}")
            if place := self._place(self._trials[number]):
                self.say(f"  its log: {place}")

        # a table that redraws itself, or a few lines now and then
        if self._live:
            self._live.update(self._table(state))
        elif self._is_due():
            self._told_at = time.monotonic()
            self.say(f"{headline}  {self._counts(state)}")
            for lane, lease in sorted(state.running.items()):
                if p := "phase" in lease.progress and lease.progress:
                    self.say(
                        f"  lane {slot_of(lane)}: {title(state, lease)}  {p['phase']} "
                        f"epoch {p['epoch']}/{p['epochs']}  loss {p['loss']:.4f}  "
                        f"{p['images_per_s']:,.0f} images/s"
                    )

    def _is_due(self) -> bool:
        now = time.monotonic()
        every = next(each for until, each in PLAIN_EVERY_S if now - self._began < until)
        return self._told_at is None or now - self._told_at >= every

    def _place(self, trial: Trial) -> str:
        """Return the folder of the phase that failed; empty where the store does not say."""
        if self._store is None:
            return ""
        with suppress(OSError):
            folders = [phase.folder(self._store) for phase in trial.phases]
            failed = next((folder for folder in folders if folder.failure()), None)
            if failed:
                return f"{self._store.root}/{failed.name}/failure.json"
            unfinished = [folder for folder in folders if not folder.finished()]
            return f"{self._store.root}/{unfinished[0].name}" if unfinished else ""
        return ""

    def _headline(self, state: RunState) -> str:
        passed = duration(time.monotonic() - self._began)
        return f"[{passed}] {len(state.ended) - len(state.dropped)}/{state.asked} trials"

    def _counts(self, state: RunState) -> str:
        """Count what runs, waits and failed, and what the store had; then the time left."""
        # What is dropped may still be at work, and is counted once.
        at_work = {lease.number for lease in state.running.values()}
        # trials that looks have not asked for are nobody's to wait for
        waits = len(self._trials) - len({*state.ended, *at_work, *state.held})
        counts = {"running": len(state.running), "waiting": waits, "failed": len(state.failed)}
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        parts += [f"{state.elsewhere} of them at work in another run"] * bool(state.elsewhere)
        parts += [f"{self._done} cached"] * bool(self._done)
        if left := self._remaining.left(state):
            parts.append(f"about {duration(left)} left")
        if state.live < state.wanted:
            parts.append(f"waiting for nodes: {state.live} of {state.wanted} lanes")
        return ", ".join(parts)

    def _table(self, state: RunState) -> Table:
        # a narrow terminal loses the bar, loss and speed, never the trial's name
        wide = self._console.width >= WIDE
        lines = [self._headline(state), self._counts(state)]
        table = Table(title=("  " if wide else "\n").join(lines), title_justify="left", box=None)
        room = None if wide else max(8, self._console.width - BESIDE)
        shown = COLUMNS if wide else COLUMNS_IF_NARROW
        for name in shown:
            most = room if name == "trial" else None
            table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=most)
        for lane, lease in sorted(state.running.items()):
            cells = (slot_of(lane), title(state, lease), *progress_cells(lease.progress))
            row = dict(zip(COLUMNS, cells, strict=True))
            table.add_row(*(row[name] for name in shown))
        return table


def title(state: RunState, lease: Lease) -> str:
    """Name a lane's trial, with the number of the attempt after the first."""
    attempt = f" (attempt {lease.attempt})" if lease.attempt > 1 else ""
    return state.label(lease.number) + attempt


def progress_cells(progress: dict) -> tuple:
    """Return the table's cells of one lane's progress."""
    if "phase" not in progress:
        return ("starting", "", "", "", "", "")
    return (
        progress["phase"],
        f"{progress['epoch']}/{progress['epochs']}",
        ProgressBar(total=progress["epochs"], completed=progress["epoch"], width=20),
        f"{progress['loss']:.4f}",
        f"{progress['images_per_s']:,.0f}",
        duration(progress["seconds_left"]),
    )


class RemainingTime:
    """Corrects the plan's estimate by how long trials take that start and end.

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

    def watch(self, state: RunState, now: float | None = None) -> None:
        """Take note of what has started and finished. `now`: seconds of a clock of one's own."""
        now = time.monotonic() if now is None else now
        for lease in state.running.values():
            self._began.setdefault(lease.number, now)
        for number in state.finished[self._finished :]:
            if number in self._began:
                self._took += now - self._began[number]
                self._expected += self._seconds[number]
        self._finished = len(state.finished)

    @property
    def factor(self) -> float:
        """Measured over estimated seconds; an ordinary trial's estimate has a say, too, so that the
        first one's is not all."""
        # one ordinary trial's worth of trust in the estimate
        usual = sum(self._seconds) / len(self._seconds) if self._seconds else 0.0
        whole = self._expected + usual
        return (self._took + usual) / whole if whole else 1.0

    def left(self, state: RunState, now: float | None = None) -> float | None:
        """Seconds until the last trial ends that is asked for; None where nothing was estimated."""
        if not any(self._seconds):
            return None
        now = time.monotonic() if now is None else now
        # those at work go on, those that wait are packed onto lanes as they get free
        at_work = {lease.number: lease.progress for lease in state.running.values()}
        rests = [self._rest(number, progress, now) for number, progress in at_work.items()]
        waiting = [
            self.factor * seconds
            for number, seconds in enumerate(self._seconds)
            if number not in state.ended and number not in at_work and number not in state.held
        ]
        return makespan(waiting, max(state.live, len(rests), 1), busy=rests)

    def _rest(self, number: int, progress: dict, now: float) -> float:
        """Estimate the seconds left of a trial at work: never less than its phase itself says."""
        passed = now - self._began.get(number, now)
        return max(self.factor * self._seconds[number] - passed, progress.get("seconds_left", 0.0))

"""Live progress: a table that redraws itself on a terminal, plain lines every few seconds else."""

import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mae_ablation.cluster.crew import slot_of
from mae_ablation.cluster.queue import Lease
from mae_ablation.cluster.tally import Tally

PLAIN_EVERY_S = 10.0
STARTING = "starting Ray and the lanes ..."


def duration(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Progress:
    """Shows how the trials stand while they run."""

    def __init__(self, console: Console, trials: int) -> None:
        self._console, self._trials = console, trials
        self._began = time.monotonic()
        self._told = 0.0
        self._finished = 0  # how many of them have been told
        self._failed: set[int] = set()
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

    def show(self, tally: Tally) -> None:
        self._tell_ended(tally)
        if self._live:
            self._live.update(self._table(tally))
        elif time.monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = time.monotonic()
            if tally.live < tally.wanted:
                self._console.print(f"{self._headline(tally)}  {waiting(tally)}")
            for lane, lease in sorted(tally.running.items()):
                text = line(tally.label(lease.number), lease)
                self._console.print(f"{self._headline(tally)}  lane {slot_of(lane)}: {text}")

    def _tell_ended(self, tally: Tally) -> None:
        headline = self._headline(tally)
        for number in tally.finished[self._finished :]:
            self._console.print(f"{headline}  finished {tally.label(number)}")
        self._finished = len(tally.finished)
        for number in [n for n in tally.failed if n not in self._failed]:
            self._console.print(f"{headline}  FAILED {tally.label(number)}: {tally.failed[number]}")
            self._failed.add(number)

    def _headline(self, tally: Tally) -> str:
        passed = duration(time.monotonic() - self._began)
        return f"[{passed}] {len(tally.ended)}/{self._trials} trials"

    def _table(self, tally: Tally) -> Table:
        title = self._headline(tally)
        title += f"  {waiting(tally)}" if tally.live < tally.wanted else ""
        table = Table(title=title, title_justify="left", box=None, expand=False)
        for name in ("lane", "trial", "phase", "epoch", "", "loss", "images/s", "left"):
            table.add_column(name, no_wrap=True)
        for lane, lease in sorted(tally.running.items()):
            label = tally.label(lease.number) + again(lease)
            table.add_row(slot_of(lane), label, *cells(lease.progress))
        return table


def waiting(tally: Tally) -> str:
    return f"waiting for nodes: {tally.live} of {tally.wanted} lanes"


def again(lease: Lease) -> str:
    return f" (attempt {lease.attempt})" if lease.attempt > 1 else ""


def cells(progress: dict) -> tuple:
    """Table cells of one lane's progress."""
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


def line(label: str, lease: Lease) -> str:
    """One lane's progress as text."""
    p, label = lease.progress, label + again(lease)
    if "phase" not in p:
        return f"{label}  starting"
    return (
        f"{label}  {p['phase']} epoch {p['epoch']}/{p['epochs']}  loss {p['loss']:.4f}"
        f"  {p['images_per_s']:,.0f} images/s  {duration(p['seconds_left'])} left"
    )

"""Live progress: a table that redraws itself on a terminal, plain lines every few seconds else."""

import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mae_ablation.cluster.queue import Lease, Snapshot

PLAIN_EVERY_S = 10.0
STARTING = "starting Ray and the lanes ..."


def duration(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Progress:
    """Shows snapshots of the queue while trials run."""

    def __init__(self, console: Console, trials: int) -> None:
        self._console, self._trials = console, trials
        self._began = time.monotonic()
        self._told = 0.0
        self._seen: set[str] = set()
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

    def show(self, snapshot: Snapshot) -> None:
        self._tell_ended(snapshot)
        if self._live:
            self._live.update(self._table(snapshot))
        elif time.monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = time.monotonic()
            for lane, lease in sorted(snapshot.running.items()):
                self._console.print(f"{self._headline(snapshot)}  lane {lane}: {line(lease)}")

    def _tell_ended(self, snapshot: Snapshot) -> None:
        for label in snapshot.finished:
            if label not in self._seen:
                self._console.print(f"{self._headline(snapshot)}  finished {label}")
        for label, reason in snapshot.failed.items():
            if label not in self._seen:
                self._console.print(f"{self._headline(snapshot)}  FAILED {label}: {reason}")
        self._seen.update(snapshot.finished, snapshot.failed)

    def _headline(self, snapshot: Snapshot) -> str:
        ended = len(snapshot.finished) + len(snapshot.failed)
        return f"[{duration(time.monotonic() - self._began)}] {ended}/{self._trials} trials"

    def _table(self, snapshot: Snapshot) -> Table:
        table = Table(title=self._headline(snapshot), title_justify="left", box=None, expand=False)
        for name in ("lane", "trial", "phase", "epoch", "", "loss", "images/s", "left"):
            table.add_column(name, no_wrap=True)
        for lane, lease in sorted(snapshot.running.items()):
            table.add_row(str(lane), lease.trial.label, *cells(lease.progress))
        return table


def cells(progress: dict) -> tuple:
    """Table cells of one lane's progress."""
    if not progress:
        return ("starting", "", "", "", "", "")
    return (
        progress["phase"],
        f"{progress['epoch']}/{progress['epochs']}",
        ProgressBar(total=progress["epochs"], completed=progress["epoch"], width=20),
        f"{progress['loss']:.4f}",
        f"{progress['images_per_s']:,.0f}",
        duration(progress["seconds_left"]),
    )


def line(lease: Lease) -> str:
    """One lane's progress as text."""
    p = lease.progress
    if not p:
        return f"{lease.trial.label}  starting"
    return (
        f"{lease.trial.label}  {p['phase']} epoch {p['epoch']}/{p['epochs']}  loss {p['loss']:.4f}"
        f"  {p['images_per_s']:,.0f} images/s  {duration(p['seconds_left'])} left"
    )

"""PhaseRun: one phase at work: where it writes, whom it tells, who works on it, how it may end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.team import Team


class Diverged(RuntimeError):
    """The loss is not finite."""

    on_all_ranks = True  # it follows from losses that all ranks know


class Stopped(Exception):
    """The run was asked to stop; what was reached is in a checkpoint. Not a failure."""


class Busy(Exception):
    """Another run is at work on the phase. Not a failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRun:
    """One phase at work."""

    folder: PhaseFolder
    device: str = "cpu"
    commit: str = "unknown"
    """commit of the code, for the result"""
    prefix: str = ""
    """of the names of its metrics, where that is not the phase's own name"""
    lanes: int = 1
    """how many trials run side by side, itself included: it matters to measured times"""
    attempt: int = 1
    """how often the trial has been started, this time included"""
    report: Callable[[dict], None] = field(default=lambda progress: None)
    """told the progress after every epoch, by rank 0"""
    stop: Callable[[], bool] = field(default=lambda: False)
    """whether to leave; asked after every optimiser step"""
    team: Team = Team()

    def note(self, step: int, metrics: dict[str, float]) -> None:
        """Write a point of the journal."""
        self.team.alone(lambda: self.folder.journal.append(step, metrics))

    def last(self, metric: str) -> float:
        """The metric's value at the journal's last point."""
        return self.team.alone(lambda: self.folder.journal.read()[-1]["m"][metric])

    def tell_saved(self, step: int) -> None:
        """Report a checkpoint."""
        if self.team.rank == 0:
            self.report({"saved": {self.folder.name: step}})

    def tell(
        self, phase: str, epoch: int, epochs: int, loss: float, images: int, seconds: float
    ) -> None:
        """Report the end of an epoch that saw so many images in so many seconds."""
        if self.team.rank > 0:
            return
        self.report(
            {
                "phase": phase,
                "epoch": epoch,
                "epochs": epochs,
                "loss": loss,
                "images_per_s": images / seconds,
                "seconds_left": (epochs - epoch) * seconds,
            }
        )

"""Has a run save and leave: at Ctrl-C, SIGTERM, a closed terminal, or spent hours."""

import os
import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_PER_HOUR = 3600


class Interrupt:
    """Sets `asked` when a signal in the block asks the run to leave; a second one raises.

    Ray's own processes block SIGINT and SIGHUP (session.py), so that a terminal's Ctrl-C and its
    end reach the driver alone. The end is told twice at once, by the shell and by the system, so
    that another SIGHUP asks for nothing more.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # else: not ours to say
            heard = [n for n in SIGNALS if not (n == signal.SIGHUP and is_ignored(n))]
            self._before = {number: signal.signal(number, self._take) for number in heard}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            mute_lost_terminal()
        elif self.asked:
            raise KeyboardInterrupt
        self.asked = True


def is_ignored(number: int) -> bool:
    """Tell if what started us had the signal ignored, as nohup has SIGHUP. A script has SIGINT so
    in all that it starts in the background, where Ctrl-C is still to be heard."""
    return signal.getsignal(number) is signal.SIG_IGN


def mute_lost_terminal() -> None:
    """Send what is printed nowhere if its terminal is gone: else the next line is an error."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


class TimeLimit:
    """Tells when a run has spent what it was given; without a limit it never does.

    Args:
        hours: of the clock, since `began`.
        gpu_hours: of all GPUs of the lanes that are alive, whether or not they are at work.
        max_cost: of the same GPUs, in the currency of the price.
        price: of a GPU-hour.
        gpus_per_lane: that each of its workers holds, together.
        began: a moment of `time.monotonic`; None: now.
    """

    def __init__(
        self,
        *,
        hours: float | None = None,
        gpu_hours: float | None = None,
        max_cost: float | None = None,
        price: float = 0.0,
        gpus_per_lane: float = 0.0,
        began: float | None = None,
    ) -> None:
        self._hours, self._gpu_hours, self._gpus = hours, gpu_hours, gpus_per_lane
        self._max_cost, self._price = max_cost, price
        self._began = time.monotonic() if began is None else began
        self._seen = time.monotonic()
        self._gpu_seconds = 0.0

    def spent(self, lanes: int) -> str:
        """Say what is spent, as "2 hours" or "a cost of 20"; "" while some of it is left.

        To be asked often. `lanes`: those that are alive, and were since it was last asked.
        """
        now = time.monotonic()
        self._gpu_seconds += lanes * self._gpus * (now - self._seen)
        self._seen = now
        if self._hours is not None and now - self._began >= self._hours * SECONDS_PER_HOUR:
            return f"{self._hours:g} hour{'s' * (self._hours != 1)}"
        used = self._gpu_seconds / SECONDS_PER_HOUR
        if self._gpu_hours is not None and used >= self._gpu_hours:
            return f"{self._gpu_hours:g} GPU-hour{'s' * (self._gpu_hours != 1)}"
        if self._max_cost is not None and used * self._price >= self._max_cost:
            return f"a cost of {self._max_cost:g}"
        return ""

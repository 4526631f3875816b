"""Interrupt: the first Ctrl-C (SIGTERM, closed terminal) asks a run to save and leave, the second
stops it."""

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """For the block, `asked` says whether the run is to leave; a second signal raises.

    Ray's own processes block SIGINT, so that a terminal's Ctrl-C reaches the driver alone.
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
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def is_ignored(number: int) -> bool:
    """Whether what started us had the signal ignored, as nohup has SIGHUP. A script has SIGINT so
    in all that it starts in the background, where Ctrl-C is still to be heard."""
    return signal.getsignal(number) is signal.SIG_IGN

"""Interrupt: the first Ctrl-C (SIGTERM, closed terminal) asks a run to save and leave, the second
stops it."""

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """For the block, `asked` says whether the run is to leave; a second signal raises.

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
    """Whether what started us had the signal ignored, as nohup has SIGHUP. A script has SIGINT so
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

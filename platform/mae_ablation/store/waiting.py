"""Says what is waited for: a line after five seconds, and an end where one is promised."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

SAID_AFTER_S = 5.0
AGAIN_AFTER_S = 60.0
ANSWER_S = 15.0
"""a place that does not answer is given up then"""

Answer = TypeVar("Answer")


@contextmanager
def waiting(for_what: str) -> Iterator[None]:
    """Say on stderr what the block waits for, if it takes longer than five seconds."""
    done = threading.Event()

    def say() -> None:
        pause = SAID_AFTER_S
        while not done.wait(pause):
            print(f"waiting for {for_what} ...", file=sys.stderr, flush=True)
            pause = AGAIN_AFTER_S

    threading.Thread(target=say, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def answer_in_time(ask: Callable[[], Answer], who: str) -> Answer:
    """Return the answer of a place that may be out of reach, or raise its error.

    Raises:
        TimeoutError: none came within ANSWER_S; the question is left to itself.
    """
    found: list[Answer] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(ask())
        except BaseException as error:  # raised again below, in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=run, name="answer", daemon=True)
    with waiting(who):
        thread.start()
        thread.join(ANSWER_S)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(
            f"{who} did not answer within {ANSWER_S:.0f} s: check its name, the network and the "
            "credentials"
        )
    return found[0]

"""Waiting for a slow place: a line after five seconds, and an end where one is promised."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
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
    # a thread of its own: the block may hang in the system
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
    """Return the answer of a place, or raise its error; TimeoutError if none comes in ANSWER_S."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # raised again in the thread that asked
            answer.set_exception(error)

    # a daemon's thread: the program may end while the place is still silent
    threading.Thread(target=run, name="answer", daemon=True).start()
    with waiting(who):
        try:
            return answer.result(ANSWER_S)
        except TimeoutError:
            if answer.done():  # the place's own
                raise
            message = f"{who} did not answer within {ANSWER_S:.0f} s: check its name, the network"
            raise TimeoutError(f"{message} and the credentials") from None

"""Errors of the user's: one line with the value, the place and the remedy, exit status 2."""

import difflib
import re
from collections.abc import Iterable

WRAPPED = re.compile(r"Caught \w+ in .+\.$")
"""first line of an error that torch hands from another process or thread: its type, no reason"""


class UserError(Exception):
    """Printed as `place: message`, without a traceback."""

    def __init__(self, message: str, place: str = "") -> None:
        text = f"{place}: {message}" if place else message
        if not WRAPPED.match(text.partition("\n")[0]):  # torch makes one of a whole traceback
            text = text.replace("\n", "\\n")  # a folder's name may hold one
        super().__init__(text)


class Emptier(UserError):
    """Something was not written, because what lies in its place holds more results. Exit status 1,
    as for any result that is missing."""


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """`unknown key "mask_ration" (did you mean "mask_ratio"?)`, or the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    return f'unknown {what} "{name}" ({hint})'


RAISED = re.compile(r"[A-Za-z_][\w.]*: \S.*")
"""line of a traceback that holds an exception's type and words"""
PLACE = '  File "'
"""begins a traceback's lines about places"""


def one_line(error: BaseException) -> str:
    """`ValueError: the reason`, in one line, also of an error that has crossed a process.

    torch hands over the other process's traceback as the error's text, whose first line has no
    reason; it is on the line of the exception that was raised there last.
    """
    error = getattr(error, "cause", None) or error  # Ray keeps the exception itself beside its text
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if WRAPPED.match(lines[0]):
        last = max((i for i, line in enumerate(lines) if line.startswith(PLACE)), default=0)
        raised = next((line for line in lines[last + 1 :] if RAISED.match(line)), None)
        if raised:
            name, _, words = raised.partition(": ")
            return f"{name.rsplit('.', 1)[-1]}: {words}"
    return f"{type(error).__name__}: {lines[0].strip()}"

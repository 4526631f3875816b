"""Errors of the user's: one line with the value, the place and the remedy, exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Printed as `place: message`, without a traceback."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)


class Emptier(UserError):
    """Something was not written, because what lies in its place holds more results. Exit status 1,
    as for any result that is missing."""


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """`unknown key "mask_ration" (did you mean "mask_ratio"?)`, or the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    return f'unknown {what} "{name}" ({hint})'

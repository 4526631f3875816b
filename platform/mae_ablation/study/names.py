"""Names of the user's that become something else: a file, a folder, an experiment, a column's key.

A name that is safe as it stands is kept. Any other is made safe and ends with a hash of what was
written, so that two names never become one.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from mae_ablation.errors import UserError

MOST_BYTES = 120
"""of a file's name: encrypted folders take 143, and locks and temporary files add to it"""
MOST_KEY = 200
"""characters of a key: MLflow takes 250, a prefix included"""
DIGITS = 8  # of a hash
NOT_IN_FILES = re.compile(r"[^\w.=+-]+")
NOT_IN_KEYS = re.compile(r"[^\w. -]+")  # MLflow groups charts at "/", Windows has no ":"
NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]+")  # of jobs: parts of addresses and of shell commands
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{i}" for port in ("com", "lpt") for i in range(10)),
}
PAGES = {"index.html", "how_to_read.md", "verdicts.md", "verdicts_power.png"}
"""what lies beside the reports' folders"""
UNPRINTABLE = {"Cc", "Cs", "Cn", "Zl", "Zp"}
"""Unicode's categories of line breaks, control characters and bytes that are no text"""


def file_name(text: str) -> str:
    """Return the file or folder name of a text, for every file system.

    Neither long, nor hidden, nor like an option, a device or a page of ours. Names that differ in
    case alone stay so: whoever makes two of them compares them by `folded`.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = NOT_IN_FILES.sub("-", plain).lstrip(".-").rstrip(".")
    taken = safe.partition(".")[0].casefold() in DEVICES or safe.casefold() in PAGES
    safe = f"_{safe}" if taken else safe
    return _distinct(plain, safe, MOST_BYTES)


def job_name(text: str) -> str:
    """Return the part of a job's id that says which study it is."""
    return _distinct(text, NOT_IN_IDS.sub("-", text).strip("-"), MOST_BYTES // 2)


def folded(name: str) -> str:
    """Return what is equal of two names where a file system ignores case and ways to write an
    accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def tracking_keys(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Keys of parameters and metrics in MLflow, by the names they stand for.

    Args:
        names: distinct ones.
        taken: keys that other things have; equal is what differs in case alone, as in databases
            that ignore it.
    """
    names = list(names)
    safe = {name: NOT_IN_KEYS.sub("_", name).strip(" ").lstrip(".-") for name in names}
    uses = Counter([*map(folded, taken), *map(folded, safe.values())])
    return {
        name: _distinct(name, key, MOST_KEY, clashes=uses[folded(key)] > 1)
        for name, key in safe.items()
    }


def _distinct(text: str, safe: str, most: int, *, clashes: bool = False) -> str:
    """`safe` where it is the text itself and short, else cut and with the text's hash."""
    if safe and safe == text and len(safe.encode()) <= most and not clashes:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]
    room = most - DIGITS - 1
    cut = (safe or "unnamed").encode()[:room].decode(errors="ignore")
    return f"{cut}-{digest}"


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; a longer one ends with its hash."""
    if len(text) <= most:
        return text
    return f"{text[: most - DIGITS - 1]}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"


def require_name(text: str, what: str, place: str) -> None:
    """Refuse a name that cannot stand in a table.

    Raises:
        UserError: it is empty, or holds line breaks, control characters or bytes that are no text.
    """
    if not text:
        raise UserError(f"{what} has no name: give it one", place)
    odd = next((c for c in text if unicodedata.category(c) in UNPRINTABLE), None)
    if odd is not None:
        shown = text.encode("unicode_escape").decode()
        message = f'{what} "{shown}" holds U+{ord(odd):04X}, which no table shows: rename it'
        raise UserError(message, place.encode("utf-8", "backslashreplace").decode())

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

MOST_NAME_BYTES = 120  # encrypted folders take 143, and locks and temporary files add to it
MOST_KEY = 200  # characters of a key: MLflow takes 250, a prefix included
HASH_DIGITS = 8
NOT_IN_FILES = re.compile(r"[^\w.=+-]+")
NOT_IN_KEYS = re.compile(r"[^\w. -]+")  # MLflow groups charts at "/", Windows has no ":"
NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]+")  # of jobs: parts of addresses and of shell commands
DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(10))}
PAGES = {"index.html", "how_to_read.md", "verdicts.md", "verdicts_power.png"}  # beside the reports
UNPRINTABLE = {"Cc", "Cs", "Cn", "Zl", "Zp"}
"""Unicode's categories of line breaks, control characters and bytes that are no text"""


def file_name(text: str) -> str:
    """Return the file or folder name of a text, for every file system.

    Names that differ in case alone stay so: whoever makes two of them compares them by `folded`.
    """
    # neither long, nor hidden, nor like an option, a device or a page of ours
    plain = unicodedata.normalize("NFC", text)
    safe = NOT_IN_FILES.sub("-", plain).lstrip(".-").rstrip(".")
    taken = safe.partition(".")[0].casefold() in DEVICES or safe.casefold() in PAGES
    safe = f"_{safe}" if taken else safe
    return _distinct(plain, safe, MOST_NAME_BYTES)


def job_name(text: str) -> str:
    """Return the part of a job's id that says which study it is."""
    return _distinct(text, NOT_IN_IDS.sub("-", text).strip("-"), MOST_NAME_BYTES // 2)


def folded(name: str) -> str:
    """Return what is equal of names that differ in case or in how an accent is written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def tracking_keys(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return keys of parameters and metrics in MLflow, by the distinct names they stand for.

    Args:
        taken: keys that other things have.
    """
    names = list(names)
    # databases may ignore case
    # MLflow's own rules first, then what two names may not share
    safe = {name: NOT_IN_KEYS.sub("_", name).strip(" ").lstrip(".-") for name in names}
    uses = Counter([*map(folded, taken), *map(folded, safe.values())])
    return {
        name: _distinct(name, key, MOST_KEY, clashes=uses[folded(key)] > 1)
        for name, key in safe.items()
    }


def _distinct(text: str, safe: str, most: int, *, clashes: bool = False) -> str:
    """Return `safe` if it is the text itself and short, else cut and with the text's hash."""
    if safe and safe == text and len(safe.encode()) <= most and not clashes:
        return safe
    start = (safe or "unnamed").encode()[: most - HASH_DIGITS - 1].decode(errors="ignore")
    return f"{start}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_DIGITS]


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; a longer one ends with its hash."""
    if len(text) <= most:  # most are: only the long ones pay with a hash
        return text
    return f"{text[: most - HASH_DIGITS - 1]}-{_digest(text)}"


def require_name(text: str, what: str, place: str) -> None:
    """Refuse a name that cannot stand in a table."""
    if not text:
        raise UserError(f"{what} has no name: give it one", place)
    # lines and control characters would break a table apart, in a terminal or on a page
    odd = next((c for c in text if unicodedata.category(c) in UNPRINTABLE), None)
    if odd is not None:
        shown = text.encode("unicode_escape").decode()
        message = f'{what} "{shown}" holds U+{ord(odd):04X}, which no table shows: rename it'
        raise UserError(message, place.encode("utf-8", "backslashreplace").decode())

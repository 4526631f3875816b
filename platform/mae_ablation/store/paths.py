"""Paths and addresses as a person types them, made into what the system wants."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

FILE_SCHEME = "file://"
OPTIONS = re.compile(r"\?(?:[a-z_]+=[^&?#]*)(?:&[a-z_]+=[^&?#]*)*$")
"""settings of a file system behind its address: s3://bucket/store?region=eu-north-1"""


def expanded(path: str | os.PathLike) -> Path:
    """Return a path whose first part may be ~ or ~user; a shell does not expand --store=~/x."""
    return Path(os.path.expanduser(path))


def is_remote(place: str | os.PathLike) -> bool:
    """Tell whether a place is given by an address, other than of a file."""
    text = os.fspath(place)
    return "://" in text and not text.startswith(FILE_SCHEME)


def expanded_place(place: str | os.PathLike) -> str:
    """Return a folder's path, or an address as it is."""
    # only the first part of a path can be a home folder, and none of an address
    text = os.fspath(place)
    if is_remote(text):
        return text
    if text.startswith(FILE_SCHEME):
        return str(expanded(unquote(text.removeprefix(FILE_SCHEME).removeprefix("localhost"))))
    return str(expanded(text)) if text.startswith("~") else text


def quoted_address(address: str) -> str:
    """Return the address that a parser of addresses reads as this one, whose path is meant as it
    stands.

    A path may hold spaces, "#", "%" and "?", which mean something else in an address.
    """
    # what looks like settings of a file system at the end stays so
    scheme, _, rest = address.partition("://")
    options = match[0] if (match := OPTIONS.search(rest)) else ""
    authority, slash, path = rest.removesuffix(options).partition("/")
    return f"{scheme}://{authority}{slash}{quote(path)}{options}"

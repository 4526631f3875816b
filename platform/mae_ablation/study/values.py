"""Written text to values and back: the field's type says what a spelling means, YAML does not.

Numbers are decimal: 3, +3, 2e3, 1e-3, .5, 5. - what older or other rules read as something else
(010, 1_000, 0x10, 1:30) is refused with a remedy. True and false are written so, as in YAML 1.2.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from mae_ablation.study.document import Text

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
LEADING_ZERO = re.compile(r"[+-]?0+\d", re.ASCII)
NOT_FINITE = re.compile(r"[+-]?\.?(?:inf|infinity|nan)", re.IGNORECASE)
TRUTH = {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
NOT_TRUTH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
NULL = ("null", "")
"""words that leave an optional field unset: `null`, or nothing at all"""
NULL_OF_YAML = ("~", "Null", "NULL", *NULL)
"""the same for fields that hold no text, where these words can mean nothing else"""


class Unreadable(ValueError):
    """A text that is no value of its type; the message is the remedy, or empty."""


def to_number(text: str) -> float:
    """Return a finite number in any decimal spelling; raises Unreadable for any other text."""
    text = text.strip()
    if not NUMBER.fullmatch(text) or LEADING_ZERO.match(text):
        raise Unreadable(_remedy(text))
    value = float(text)
    if abs(value) == float("inf"):
        raise Unreadable("a number must be finite")
    return value + 0.0  # minus zero is zero


def to_whole(text: str) -> int:
    """Return a whole number in any decimal spelling: 2000, 2e3 and 2000.0 are one."""
    to_number(text)  # bounds the exponent, too
    value = Decimal(text.strip())
    if value != value.to_integral_value():
        raise Unreadable("")
    return int(value)


def to_truth(text: str) -> bool:
    """Return true or false, as YAML 1.2 spells them; `yes` and its like are Unreadable."""
    if (word := text.strip()) in TRUTH:
        return TRUTH[word]
    meant = NOT_TRUTH.get(word.lower())
    raise Unreadable(f"write {meant}" if meant else "")


def are_numbers(values: Iterable[Any]) -> bool:
    """Say whether all values are numbers; true and false are none."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def is_null(value: Any, *, text: bool = True) -> bool:
    """Tell whether a value leaves its field unset, which may be a field of text."""
    # quoted words are text, and so is ~ where a folder may be called so
    if not isinstance(value, Text):
        return value is None
    return not value.quoted and str(value) in (NULL if text else NULL_OF_YAML)


def format_value(value: Any) -> str:
    """Return a field's value as one would write it: 0.001, 8, true, null, [3, 6], pixel."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    return str(value)


def format_given(value: Any) -> str:
    """Write what a file or an argument says, for a message: text in quotes, lists in brackets."""
    if isinstance(value, dict):
        return "a mapping"
    return f'"{value}"' if isinstance(value, str) else format_value(value)


def _remedy(text: str) -> str:
    """Return how to write what somebody may have meant by a spelling that is refused."""
    # spellings of other languages, and of YAML's own older rules; Decimal drops leading zeros
    plain, point = text.replace("_", ""), text.replace(",", ".", 1)
    if NOT_FINITE.fullmatch(text):
        return "a number must be finite"
    if "_" in text and NUMBER.fullmatch(plain):
        return f"write {Decimal(plain)}, without underscores"
    if NUMBER.fullmatch(text) and LEADING_ZERO.match(text):
        return f"write {Decimal(text)}; a leading zero may also mean base 8"
    return f"write {Decimal(point)}, with a point" if NUMBER.fullmatch(point) else ""

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
OTHER_BASE = re.compile(r"[+-]?0[xXoObB][0-9a-fA-F]+", re.ASCII)
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
    """Return a finite number in any decimal spelling.

    Raises:
        Unreadable: any other text.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text) or LEADING_ZERO.match(text):
        raise Unreadable(_remedy(text))
    value = float(text)
    if abs(value) == float("inf"):
        raise Unreadable("a number must be finite")
    return value + 0.0  # minus zero is zero


def to_whole(text: str) -> int:
    """Return a whole number in any decimal spelling: 2000, 2e3 and 2000.0 are one.

    Raises:
        Unreadable: any other text, such as 2.5.
    """
    to_number(text)  # bounds the exponent, too
    value = Decimal(text.strip())
    if value != value.to_integral_value():
        raise Unreadable("")
    return int(value)


def to_truth(text: str) -> bool:
    """true or false, as YAML 1.2 spells them.

    Raises:
        Unreadable: any other text, such as yes.
    """
    if (word := text.strip()) in TRUTH:
        return TRUTH[word]
    meant = NOT_TRUTH.get(word.lower())
    raise Unreadable(f"write {meant}" if meant else "")


def are_numbers(values: Iterable[Any]) -> bool:
    """Say whether all values are numbers; true and false are none."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def is_null(value: Any, *, text: bool = True) -> bool:
    """Tell whether a value leaves its field unset. `text`: the field holds text.

    Quoted words are text. A folder may be called ~, so where text is meant only `null` and an
    empty value count.
    """
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
    """Whatever a file or an argument says, for a message: text in quotes, a list in brackets."""
    if isinstance(value, dict):
        return "a mapping"
    return f'"{value}"' if isinstance(value, str) else format_value(value)


def _remedy(text: str) -> str:
    """Return how to write what somebody may have meant by a spelling that is refused."""
    plain = text.replace("_", "")
    if NOT_FINITE.fullmatch(text):
        return "a number must be finite"
    if "_" in text and NUMBER.fullmatch(plain):
        return f"write {_without_zeros(plain)}, without underscores"
    if OTHER_BASE.fullmatch(plain):
        sign = "-" if plain.startswith("-") else ""
        try:
            return f"write it in decimals, {sign}{int(plain.lstrip('+-'), 0)}"
        except ValueError:
            return "write it in decimals"
    if NUMBER.fullmatch(text) and LEADING_ZERO.match(text):
        return f"write {_without_zeros(text)}; a leading zero may also mean base 8"
    if NUMBER.fullmatch(text.replace(",", ".", 1)):
        return f"write {_without_zeros(text.replace(',', '.', 1))}, with a point"
    return ""


def _without_zeros(text: str) -> str:
    """Return a number without its leading zeros."""
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    digits = digits.lstrip("0") or "0"
    return sign + digits if digits[0].isdigit() else f"{sign}0{digits}"

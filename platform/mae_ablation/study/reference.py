"""References of a study: numbers that others have published, beside the paper's.

reference: table_1a_multi_mae          # one that ships (paper_numbers.yaml), or numbers of one's
                                       # own, or a list of both
reference:
  - table_1a
  - source: Doe et al. 2025, Table 3   # heads its column
    levels: {0.5: 71.2, 0.75: 73.0}    # the study's levels: top-1 in per cent
    evaluation: linear_probe           # where the study has several
    factor: mask_ratio                 # where the study has several
    n: 3                               # seeds behind each number; default: 1
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mae_ablation.errors import UserError, unknown
from mae_ablation.study.document import Document, Text, text_at
from mae_ablation.study.factors import Factor, Level
from mae_ablation.study.paper import independent_tables, paper_tables, paper_value
from mae_ablation.study.settings import read_setting
from mae_ablation.study.values import Unreadable, format_value, to_number, to_whole

if TYPE_CHECKING:
    from mae_ablation.study.study import Study

KEYS = ("source", "levels", "evaluation", "factor", "n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Published numbers of one evaluation for the levels of one factor."""

    source: str
    """who published them, and where; heads a column"""
    evaluation: str
    factor: str
    n: int
    """seeds behind each number"""
    numbers: dict[str, float]
    """top-1 in per cent, by the level's label"""
    lacking: tuple[str, ...]
    """labels of the study's levels that have no number"""

    def number_of(self, factor: str, label: str) -> float | None:
        """Return the number for a level; None where there is none."""
        return self.numbers.get(label) if factor == self.factor else None

    def line(self) -> str:
        """Say what is there for the study's levels, and what is not."""
        least = f"; it has no number for {', '.join(self.lacking)}" if self.lacking else ""
        return (
            f"reference: {self.source} (n {self.n}), {self.evaluation} of {self.factor}: "
            f"{len(self.numbers)} of {len(self.numbers) + len(self.lacking)} levels{least}"
        )


def read_references(document: Document, study: "Study") -> tuple[Reference, ...]:
    """Read `reference:` of a study that is otherwise complete.

    One of an evaluation that the study's recipe leaves out is left out, too.
    """
    if (value := document.data.get("reference")) is None:
        return ()
    if study.measure == "hours" or not (*study.columns, *study.skipped):
        message = "a reference needs an accuracy: add an evaluation to phases"
        raise UserError(message, document.place("reference"))

    # one, or a list of them
    found: list[Reference] = []
    for i, entry in enumerate(value if isinstance(value, list) else [value]):
        key = ("reference", i) if isinstance(value, list) else ("reference",)
        if isinstance(entry, dict):
            made = [_read_inline(document, key, entry, study)]
        else:
            name = text_at(entry, "a reference", document.place(*key))
            made = _find_shipped(name, study, document.place(*key))
        for each in made:
            if any((o.source, o.evaluation) == (each.source, each.evaluation) for o in found):
                message = f'"{each.source}" is given twice for {each.evaluation}'
                raise UserError(f"{message}: give each a source of its own", document.place(*key))
            found.append(each)
    return tuple(each for each in found if each.evaluation in study.columns)


def _find_shipped(name: str, study: "Study", place: str) -> list[Reference]:
    """Return the references that a shipped table gives, one for each evaluation and factor."""
    papers, others = paper_tables(), independent_tables()
    if name not in {*papers, *others}:
        raise UserError(unknown("reference table", name, [*papers, *others]), place)
    columns, found = (*study.columns, *study.skipped), []
    for factor in study.factors:
        # an independent table is of one factor and one evaluation
        if table := others.get(name):
            varied = factor.field == table["factor"]
            by_column = {table["evaluation"]: table["levels"]} if varied else {}
            values = {
                column: {level.label: levels.get(level.value) for level in factor.levels}
                for column, levels in by_column.items()
            }
            source, n = table["source"], table["n"]
        else:
            # the paper's may have numbers for each evaluation
            values = {
                column: {
                    level.label: paper_value(name, factor.field, level.value, column)
                    for level in factor.levels
                }
                for column in columns
            }
            source, n = f"He et al. 2021, {name.replace('_', ' ')}", 1
        found += [
            _make(factor, numbers, source=source, evaluation=column, n=n)
            for column, numbers in values.items()
            if any(number is not None for number in numbers.values())
        ]
    if not found:
        message = f"{name} has no number for a level and an evaluation of this study"
        raise UserError(f"{message}: remove it, or give numbers with a source", place)
    return found


def _make(factor: Factor, numbers: Mapping[str, float | None], **about: Any) -> Reference:
    # what is lacking is told by the plan and not refused: few publish every level
    known = {label: number for label, number in numbers.items() if number is not None}
    lacking = tuple(label for label, number in numbers.items() if number is None)
    return Reference(factor=factor.name, numbers=known, lacking=lacking, **about)


def _read_inline(document: Document, key: tuple, entry: dict, study: "Study") -> Reference:
    """Read numbers that stand in the study itself, with their source."""
    place = document.place(*key)
    # a misspelt key would change the numbers in silence
    for name in entry:
        if name not in KEYS:
            raise UserError(unknown("key", name, KEYS), document.place(*key, name))
    if missing := [name for name in ("source", "levels") if not entry.get(name)]:
        message = "a reference has a source and levels, such as {0.5: 71.2}"
        raise UserError(f"{' and '.join(missing)} missing: {message}", place)
    source = text_at(entry["source"], "a source", document.place(*key, "source")).strip()
    evaluation = _choose(
        entry, "evaluation", [*study.columns, *study.skipped], document.place(*key, "evaluation")
    )
    names = [factor.name for factor in study.factors]
    name = _choose(entry, "factor", names, document.place(*key, "factor"))
    factor = study.factors[names.index(name)]

    # the numbers, each of a level that the study has
    levels, numbers = entry["levels"], dict.fromkeys((v.label for v in factor.levels), None)
    if not isinstance(levels, dict):
        message = "levels must hold `level: number` lines, such as {0.5: 71.2}"
        raise UserError(message, document.place(*key, "levels"))
    for text, number in levels.items():
        there = document.place(*key, "levels", text)
        level = find_level(factor, text)
        if level is not None:
            numbers[level.label] = _number(number, f"the number of {text}", there, to_number)
        elif text not in factor.left_out:
            known = ", ".join(format_value(v.value) for v in factor.levels)
            message = f'level "{text}" is not in the study: {factor.name} has {known}'
            raise UserError(message, there)
    n = _number(entry.get("n", "1"), "n", document.place(*key, "n"), to_whole)
    if n < 1:
        raise UserError(f"n is {n}: give the seeds behind a number, at least 1", place)
    return _make(factor, numbers, source=source, evaluation=evaluation, n=n)


def _choose(entry: dict, key: str, known: Sequence[str], place: str) -> str:
    """Return the word of a key; it may be left out where there is a single one to choose."""
    if key not in entry and len(known) == 1:
        return known[0]
    if key not in entry:
        message = f"which {key}? The study has {', '.join(known)}: add `{key}: {known[0]}`"
        raise UserError(message, place)
    word = text_at(entry[key], key, place)
    if word not in known:
        raise UserError(unknown(key, word, known), place)
    return word


def _number(value: Any, what: str, place: str, read: Any) -> Any:
    try:
        return read(text_at(value, what, place))
    except Unreadable:
        raise UserError(f"{what} must be a number, not {value}", place) from None


def find_level(factor: Factor, text: str) -> Level | None:
    """Return the level that a text means: its name, or any spelling of its number."""
    # as the study writes it
    for level in factor.levels:
        if text == format_value(level.value):
            return level
    if factor.field is None:
        return None
    # 0.50 and 5e-1 are the level 0.5, too
    try:
        value = read_setting(factor.field, Text(text), "").value
    except UserError:
        return None
    return next((level for level in factor.levels if level.value == value), None)

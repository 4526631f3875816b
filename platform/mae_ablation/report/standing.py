"""Standing: what the looks of a growing study have decided by now, and which seeds it asks for.

Everything follows from the results in the store and from the declaration. Seeds beyond a row's last
complete look are not counted yet, so it does not matter which trial came first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mae_ablation.report.accuracies import accuracies, is_tested
from mae_ablation.report.choice import phases_behind
from mae_ablation.report.readings import Readings
from mae_ablation.report.sequential import Decision, decide
from mae_ablation.study.looks import Asked
from mae_ablation.study.plan import Plan, Row

UNDECIDED = "undecided"
WORDS = {"different": "different", "no_difference": "no difference", UNDECIDED: "not decided"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStanding:
    """How one row stands, by evaluation ("linear_probe")."""

    decisions: dict[str, Decision]
    differences: dict[str, dict[int, float]]
    """to the baseline, in points, by seed; of seeds that no complete look counts, too"""
    complete: dict[str, int]
    """looks whose every seed has a result, here and in the baseline"""
    stuck: bool = False
    """whether a trial that failed keeps the look that is under way from being completed"""

    @property
    def open(self) -> list[str]:
        """Evaluations that are not decided."""
        return [name for name, each in self.decisions.items() if each.state == UNDECIDED]

    @property
    def looks(self) -> int:
        """Complete looks of what is open; where nothing is, those that decided the row."""
        if self.open:
            return min(self.complete[name] for name in self.open)
        return max(each.look + 1 for each in self.decisions.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How the rows of a study stand that are compared with its baseline."""

    plan: Plan
    rows: dict[int, RowStanding]
    """by number of the row in the plan, references after levels"""

    @property
    def decided(self) -> list[int]:
        """Numbers of the rows that are decided in every evaluation."""
        return [number for number, row in self.rows.items() if not row.open]

    @property
    def going(self) -> list[int]:
        """Numbers of the rows that go on."""
        most = len(self.plan.study.declared.looks)
        return [n for n, r in self.rows.items() if r.open and not r.stuck and r.looks < most]

    @property
    def looks(self) -> int:
        """Looks that every row which goes on has completed; once none does, the furthest."""
        going = [self.rows[number].looks for number in self.going]
        return min(going) if going else max((row.looks for row in self.rows.values()), default=0)

    def seeds_shown(self, number: int, column: str) -> int:
        """Seeds of a row's evaluation at the look that decided it, or at its last complete one; of
        the first look before that. Of the baseline as many as any row has.
        """
        first = self.plan.study.declared.looks[0]
        if mine := self._decision(number, column):
            return mine.seeds or first
        every = (self._decision(each, column) for each in self.rows)
        return max([first, *(each.seeds for each in every if each)])

    def seeds_under_way(self, number: int, column: str) -> int:
        """Seeds that the next look at a row's evaluation needs; as many as shown once there is
        none."""
        shown, looks = self.seeds_shown(number, column), self.plan.study.declared.looks
        mine = self._decision(number, column)
        if mine and mine.state != UNDECIDED:
            return shown
        going = [self.rows[number]] if mine else self.rows.values()
        complete = [row.complete[column] for row in going if column in row.open]
        under_way = min(complete, default=len(looks))
        return max((shown, *looks[under_way : under_way + 1]))

    def _decision(self, number: int, column: str) -> Decision | None:
        """None for the baseline, and what is its training."""
        row = self.rows.get(number)
        return row.decisions.get(column) if row else None

    def asked(self) -> tuple[dict[int, int], dict[int, int]]:
        """How many seeds each row of the plan asks for: by now, and at most at later looks.

        By now: for the look that is under way and, so that no lane waits for its last trial, for
        the next one. The baseline goes on as long as one row does.
        """
        looks = self.plan.study.declared.looks
        now, later = {}, {}
        for number, row in self.rows.items():
            at = min(row.looks, len(looks) - 1)
            if number in self.going:
                now[number], later[number] = looks[min(at + 1, len(looks) - 1)], looks[-1]
            else:
                done = looks[at] if row.open else looks[row.looks - 1]
                now[number] = later[number] = done
        everyone = [*self.plan.rows, *self.plan.references]
        for number in range(len(everyone)):
            if number not in now:
                now[number] = max(now.values(), default=looks[0])
                later[number] = max(later.values(), default=looks[0])
        return now, later

    def line(self) -> str:
        """What the last complete look decided; "" before the first."""
        looks, decided, going = self.plan.study.declared.looks, len(self.decided), len(self.going)
        if not self.looks:
            return ""
        rest = [f"{going} go on to {looks[self.looks]} seeds"] if going else []
        stuck = sum(row.stuck for row in self.rows.values())
        rest += [f"{stuck} cannot go on, as a trial failed"] if stuck else []
        left = len(self.rows) - decided - going - stuck
        rest += [f"{left} stay undecided at the most seeds"] if left else []
        return (
            f"{self.plan.study.name}: look {self.looks} at {looks[self.looks - 1]} seeds: "
            f"{decided} of {len(self.rows)} rows decided" + "".join(f"; {each}" for each in rest)
        )

    def summary(self) -> list[str]:
        """What is decided of each evaluation and at how many seeds, and what is not."""
        everyone = [*self.plan.rows, *self.plan.references]
        lines = []
        for column in self.plan.study.columns:
            parts = []
            mine = {n: r.decisions[column] for n, r in self.rows.items() if column in r.decisions}
            for state, word in WORDS.items():
                rows = [
                    f"{everyone[number].label} ({each.seeds} seeds)"
                    for number, each in mine.items()
                    if each.state == state
                ]
                parts += [f"{word}: {', '.join(rows)}"] if rows else []
            if parts:
                lines.append(f"{self.plan.study.name} {column}: {'; '.join(parts)}")
        return lines


def standing(plan: Plan, readings: Any = None, failed: frozenset[str] = frozenset()) -> Standing:
    """How the rows of a plan stand by the results there are.

    Args:
        readings: where results are read; None: a fresh look into the plan's store.
        failed: identities of phases whose trials failed, and are not tried again.
    """
    readings = readings or Readings(plan.store)
    rows = [*plan.rows, *plan.references]
    baseline = next(number for number, row in enumerate(rows) if row.is_baseline)
    decisions: dict[int, dict[str, Decision]] = {}
    paired: dict[int, dict[str, dict[int, float]]] = {}

    # Each evaluation is a family of tests of its own.
    for column in plan.study.columns:
        base = accuracies(rows[baseline], column, plan.study.seeds, readings)
        apart = {}
        for number, row in enumerate(rows):
            if is_tested(row, rows[baseline], column):
                mine = accuracies(row, column, plan.study.seeds, readings)
                apart[number] = {seed: mine[seed] - base[seed] for seed in mine if seed in base}
        found = decide({str(n): a for n, a in apart.items()}, plan.study.declared, plan.study.seeds)
        for number, differences in apart.items():
            decisions.setdefault(number, {})[column] = found[str(number)]
            paired.setdefault(number, {})[column] = differences

    # A row stands where it does in all of them together.
    stands = {}
    for number in sorted(decisions):
        complete = {name: complete_looks(plan, apart) for name, apart in paired[number].items()}
        row = RowStanding(
            decisions=decisions[number], differences=paired[number], complete=complete
        )
        pair = (rows[number], rows[baseline])
        stuck = bool(failed) and is_stuck(plan, row, pair, failed, readings)
        stands[number] = replace(row, stuck=stuck)
    return Standing(plan=plan, rows=stands)


def complete_looks(plan: Plan, differences: dict[int, float]) -> int:
    """Looks of which every seed has a difference."""
    there = 0
    while there < len(plan.study.seeds) and plan.study.seeds[there] in differences:
        there += 1
    return sum(seeds <= there for seeds in plan.study.declared.looks)


def is_stuck(
    plan: Plan, row: RowStanding, pair: Iterable[Row], failed: frozenset[str], readings: Any
) -> bool:
    """Whether a failed phase stands in the way of the look under way; `pair`: row and baseline."""
    looks = plan.study.declared.looks
    if not row.open or row.looks >= len(looks):
        return False
    return any(
        phase.identity in failed and not readings.of(phase)
        for each in pair
        for seed in plan.study.seeds[: looks[row.looks]]
        for column in row.open
        for phase in phases_behind(each.trials[seed], column)
    )


class Finished(Readings):
    """Readings that look again for what was missing, and read what is there once."""

    def of(self, phase: Any) -> dict | None:
        if self._results.get(phase.identity) is None:
            self._results.pop(phase.identity, None)
        return super().of(phase)


class Asking:
    """Says, again and again, what some studies ask for by now; those of fixed seeds ask for all."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: over one store."""
        self._plans, self._store = plans, plans[0].store
        self._readings = Finished(self._store)

    def __call__(self, failed: frozenset[str] = frozenset()) -> Asked:
        """What is asked for.

        Args:
            failed: identities of phases whose trials failed.

        Raises:
            OSError: the store cannot be read.
        """
        self._store.files.refresh()  # an object store's listing may be old
        now: set[str] = set()
        later: set[str] = set()
        lines = {}
        for plan in self._plans:
            if not plan.study.grows:
                now.update(identity for trial in plan.cells for identity in trial.result_id)
                continue
            found = standing(plan, self._readings, failed)
            for phases, seeds in zip((now, later), found.asked(), strict=True):
                phases.update(identities(plan, seeds))
            if line := found.line():
                lines[plan.study.experiment, found.looks] = line
        return Asked(now=frozenset(now), later=frozenset(later), lines=lines)


def identities(plan: Plan, seeds: dict[int, int]) -> Iterable[str]:
    """Identities of the phases of so many seeds of each row."""
    for number, row in enumerate([*plan.rows, *plan.references]):
        for each in row.tries:
            for seed in plan.study.seeds[: seeds[number]]:
                yield from each.trials[seed].result_id

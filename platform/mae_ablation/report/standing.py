"""Standing: what the looks of a growing study have decided by now, and which seeds it asks for.

Everything follows from the results in the store and from the declaration. Seeds beyond a row's last
complete look are not counted yet, so it does not matter which trial came first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mae_ablation.report.readings import (
    FreshReadings,
    Readings,
    is_tested,
    phases_behind,
    read_accuracies,
)
from mae_ablation.report.sequential import HIDDEN_BY_IMAGES, Decision, decide, is_hidden
from mae_ablation.report.spread import answers_of, compare_answers
from mae_ablation.study.plan import Plan
from mae_ablation.study.work import Asked


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStanding:
    """How one row stands, by evaluation ("linear_probe")."""

    decisions: dict[str, Decision]
    differences: dict[str, dict[int, float]]
    """Differences to the baseline in points, by seed; of seeds that no complete look counts,
    too."""
    complete: dict[str, int]
    """Looks whose every seed has a result, here and in the baseline."""
    stuck: bool = False
    """A trial that failed keeps the look that is under way from being completed."""

    @property
    def open(self) -> list[str]:
        """Evaluations that are not decided."""
        return [name for name, each in self.decisions.items() if each.is_open]

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
    readings: Any
    rows: dict[int, RowStanding]
    """By number of the row in the plan, references after levels."""

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

    def count_shown_seeds(self, number: int, column: str) -> int:
        """Count a row's seeds at the look that decided it, or at its last complete one; of the
        first look before that. Of the baseline as many as any row has."""
        first = self.plan.study.declared.looks[0]
        if mine := self._decision(number, column):
            return mine.seeds or first
        every = (self._decision(each, column) for each in self.rows)
        return max([first, *(each.seeds for each in every if each)])

    def count_awaited_seeds(self, number: int, column: str) -> int:
        """Count the seeds that the next look at a row's evaluation needs; as many as shown once
        there is none."""
        shown, looks = self.count_shown_seeds(number, column), self.plan.study.declared.looks
        mine = self._decision(number, column)
        if mine and not mine.is_open:
            return shown
        going = [self.rows[number]] if mine else self.rows.values()
        complete = [row.complete[column] for row in going if column in row.open]
        under_way = min(complete, default=len(looks))
        return max((shown, *looks[under_way : under_way + 1]))

    def _decision(self, number: int, column: str) -> Decision | None:
        """Return None for the baseline, and for a row that is its training."""
        row = self.rows.get(number)
        return row.decisions.get(column) if row else None

    def is_hidden(self, number: int, column: str) -> bool:
        """Say whether the seeds find a row no different, and the test images do not let that be
        said."""
        found = self.rows[number].decisions[column]
        if found.state != "no_difference":
            return False  # nothing has to be read
        rows = [*self.plan.rows, *self.plan.references]
        pair = (rows[number], next(row for row in rows if row.is_baseline))
        seeds = self.plan.study.seeds[: found.seeds]
        mine, base = (
            answers_of({seed: row.trials[seed] for seed in seeds}, column, self.readings)
            for row in pair
        )
        error = compare_answers(mine, base)
        return is_hidden(found, self.plan.study.declared.margin, error and error.image_se)

    def count_asked_seeds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Count the seeds that each row of the plan asks for: by now, and at most at later looks.

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
                now[number] = later[number] = looks[at] if row.open else looks[row.looks - 1]
        for number in range(len(self.plan.rows) + len(self.plan.references)):
            if number not in now:
                now[number] = max(now.values(), default=looks[0])
                later[number] = max(later.values(), default=looks[0])
        return now, later

    def line(self) -> str:
        """Say what the last complete look decided; "" before the first."""
        looks, decided, going = self.plan.study.declared.looks, len(self.decided), len(self.going)
        if not self.looks:
            return ""
        stuck = sum(row.stuck for row in self.rows.values())
        left = len(self.rows) - decided - going - stuck
        rest = [f"{going} go on to {looks[self.looks]} seeds"] if going else []
        rest += [f"{stuck} cannot go on, as a trial failed"] if stuck else []
        rest += [f"{left} stay undecided at the most seeds"] if left else []
        return (
            f"{self.plan.study.name}: look {self.looks} at {looks[self.looks - 1]} seeds: "
            f"{decided} of {len(self.rows)} rows decided" + "".join(f"; {each}" for each in rest)
        )

    def summary(self) -> list[str]:
        """Say what is decided of each evaluation and at how many seeds, and what is not."""
        everyone = [*self.plan.rows, *self.plan.references]
        lines = []
        for column in self.plan.study.columns:
            groups: dict[str, list[str]] = {
                each: [] for each in ("different", "no difference", HIDDEN_BY_IMAGES, "not decided")
            }
            for number, row in self.rows.items():
                if found := row.decisions.get(column):
                    said = "not decided" if found.is_open else found.state.replace("_", " ")
                    group = HIDDEN_BY_IMAGES if self.is_hidden(number, column) else said
                    groups[group].append(f"{everyone[number].label} ({found.seeds} seeds)")
            parts = [f"{said}: {', '.join(rows)}" for said, rows in groups.items() if rows]
            if parts:
                lines.append(f"{self.plan.study.name} {column}: {'; '.join(parts)}")
        return lines


def standing(plan: Plan, readings: Any = None, failed: frozenset[str] = frozenset()) -> Standing:
    """Find out how the rows of a plan stand by the results there are.

    Args:
        readings: where results are read; None: a fresh look into the plan's store.
        failed: identities of phases whose trials failed, and are not tried again.
    """
    readings = readings or Readings(plan.store)
    rows = [*plan.rows, *plan.references]
    baseline = next(row for row in rows if row.is_baseline)
    decisions: dict[int, dict[str, Decision]] = {}
    paired: dict[int, dict[str, dict[int, float]]] = {}

    # Each evaluation is a family of tests of its own.
    for column in plan.study.columns:
        base = read_accuracies(baseline, column, plan.study.seeds, readings)
        differences = {}
        for number, row in enumerate(rows):
            if is_tested(row, baseline, column):
                mine = read_accuracies(row, column, plan.study.seeds, readings)
                differences[number] = {s: mine[s] - base[s] for s in mine if s in base}
        found = decide(differences, plan.study.declared, plan.study.seeds)
        for number in differences:
            decisions.setdefault(number, {})[column] = found[number]
            paired.setdefault(number, {})[column] = differences[number]

    # A row stands where it does in all of them together.
    stands, looks = {}, plan.study.declared.looks
    for number in sorted(decisions):
        complete = {name: _complete_looks(plan, each) for name, each in paired[number].items()}
        row = RowStanding(
            decisions=decisions[number], differences=paired[number], complete=complete
        )
        stuck = (
            row.open
            and row.looks < len(looks)
            and any(
                phase.identity in failed and not readings.of(phase)
                for each in (rows[number], baseline)
                for seed in plan.study.seeds[: looks[row.looks]]
                for column in row.open
                for phase in phases_behind(each.trials[seed], column)
            )
        )
        stands[number] = replace(row, stuck=bool(stuck))
    return Standing(plan=plan, readings=readings, rows=stands)


def _complete_looks(plan: Plan, differences: dict[int, float]) -> int:
    """Count the looks of which every seed has a difference."""
    there = 0
    while there < len(plan.study.seeds) and plan.study.seeds[there] in differences:
        there += 1
    return sum(seeds <= there for seeds in plan.study.declared.looks)


class Asking:
    """Says, again and again, what some studies ask for by now; those of fixed seeds ask for all."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: over one store."""
        self._plans, self._store = plans, plans[0].store
        self._readings = FreshReadings(self._store)

    def __call__(self, failed: frozenset[str] = frozenset()) -> Asked:
        """Return what is asked for.

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
            for phases, seeds in zip((now, later), found.count_asked_seeds(), strict=True):
                phases.update(_identities(plan, seeds))
            if line := found.line():
                lines[plan.study.experiment, found.looks] = line
        return Asked(now=frozenset(now), later=frozenset(later), lines=lines)

    def find_failed(self) -> frozenset[str]:
        """Return the identities of phases of growing studies that failed and have no result."""
        phases = {
            phase.identity: phase
            for plan in self._plans
            if plan.study.grows
            for trial in plan.cells
            for phase in trial.phases
        }
        return frozenset(
            identity
            for identity, phase in phases.items()
            if not self._readings.of(phase) and self._readings.failure([phase])
        )


def _identities(plan: Plan, seeds: dict[int, int]) -> Iterable[str]:
    """Yield the identities of the phases of so many seeds of each row."""
    for number, row in enumerate([*plan.rows, *plan.references]):
        for each in row.tries:
            for seed in plan.study.seeds[: seeds[number]]:
                yield from each.trials[seed].result_id

"""Standing: what the looks of a growing study have decided by now, and which seeds it asks for.

Everything follows from the results in the store and from the declaration. Seeds beyond a row's last
complete look are not counted yet, so it does not matter which trial came first.
"""

from collections.abc import Sequence
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
from mae_ablation.report.spread import compare_rows
from mae_ablation.study.plan import Plan
from mae_ablation.study.work import Asked


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStanding:
    """One row's decisions and evidence, by evaluation ("linear_probe")."""

    decisions: dict[str, Decision]
    differences: dict[str, dict[int, float]]
    """Differences to the baseline in points, by seed, also of seeds that no look counts yet."""
    complete: dict[str, int]  # looks whose every seed has a result, here and in the baseline
    stuck: bool = False  # a trial that failed keeps the look that is under way from being completed

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
    """The rows of a study that are compared with its baseline, as its results have them by now."""

    plan: Plan
    readings: Any
    rows: dict[int, RowStanding]  # rows by their number in the plan, references after levels

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

    def count_seeds(self, number: int, column: str) -> tuple[int, int]:
        """Count a row's seeds at its last look, or the one that decided it, and at the next one."""
        # the baseline, and a row that is its training, have as many as any row
        rows = [row for row in self.rows.values() if column in row.decisions]
        mine = self.rows.get(number)
        rows = [mine] if mine and column in mine.decisions else rows

        # those of the first look before it is complete
        looks = self.plan.study.declared.looks
        shown = max([looks[0], *(row.decisions[column].seeds for row in rows)])
        complete = [row.complete[column] for row in rows if column in row.open]
        under_way = min(complete, default=len(looks))
        return shown, max((shown, *looks[under_way : under_way + 1]))

    def is_hidden(self, number: int, column: str) -> bool:
        """Say whether the seeds find no difference, and the test images do not let that be said."""
        found = self.rows[number].decisions[column]
        if found.state != "no_difference":
            return False  # nothing has to be read
        rows, seeds = [*self.plan.rows, *self.plan.references], self.plan.study.seeds[: found.seeds]
        base = next(row for row in rows if row.is_baseline)
        error = compare_rows(rows[number], base, seeds, column, self.readings)
        return is_hidden(found, self.plan.study.declared.margin, error and error.image_se)

    def count_asked_seeds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Count the seeds that each row of the plan asks for by now, and at most at later looks."""
        # by now: for the look that is under way and, so that no lane waits for its last trial, for
        # the next one
        looks = self.plan.study.declared.looks
        now, later = {}, {}
        for number, row in self.rows.items():
            at = min(row.looks, len(looks) - 1)
            if number in self.going:
                now[number], later[number] = looks[min(at + 1, len(looks) - 1)], looks[-1]
            else:
                now[number] = later[number] = looks[at] if row.open else looks[row.looks - 1]

        # the baseline, and rows that are its training, go on as long as one row does
        most = [max(each.values(), default=looks[0]) for each in (now, later)]
        every = range(len(self.plan.rows) + len(self.plan.references))
        return dict.fromkeys(every, most[0]) | now, dict.fromkeys(every, most[1]) | later

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
        lines, kinds = [], ("different", "no difference", HIDDEN_BY_IMAGES, "not decided")
        for column in self.plan.study.columns:
            groups: dict[str, list[str]] = {kind: [] for kind in kinds}
            for number, row in self.rows.items():
                if found := row.decisions.get(column):
                    kind = "not decided" if found.is_open else found.state.replace("_", " ")
                    kind = HIDDEN_BY_IMAGES if self.is_hidden(number, column) else kind
                    groups[kind].append(f"{everyone[number].label} ({found.seeds} seeds)")
            parts = [f"{said}: {', '.join(rows)}" for said, rows in groups.items() if rows]
            if parts:
                lines.append(f"{self.plan.study.name} {column}: {'; '.join(parts)}")
        return lines


def find_standing(
    plan: Plan, readings: Any = None, failed: frozenset[str] = frozenset()
) -> Standing:
    """Find out how the rows of a plan stand by the results there are.

    Args:
        readings: where results are read; None: a fresh look into the plan's store.
        failed: identities of phases whose trials failed, and are not tried again.
    """
    readings, seeds = readings or Readings(plan.store), plan.study.seeds
    rows, looks = [*plan.rows, *plan.references], plan.study.declared.looks
    baseline = next(row for row in rows if row.is_baseline)
    decisions: dict[int, dict[str, Decision]] = {}
    paired: dict[int, dict[str, dict[int, float]]] = {}

    # Each evaluation is a family of tests of its own.
    for column in plan.study.columns:
        base = read_accuracies(baseline, column, seeds, readings)
        differences = {}
        for number, row in enumerate(rows):
            if is_tested(row, baseline, column):
                mine = read_accuracies(row, column, seeds, readings)
                differences[number] = {s: mine[s] - base[s] for s in mine if s in base}
        for number, found in decide(differences, plan.study.declared, seeds).items():
            decisions.setdefault(number, {})[column] = found
            paired.setdefault(number, {})[column] = differences[number]

    # A row stands where it does in all of them together; a look is complete whose every seed has a
    # difference.
    stands = {}
    for number in sorted(decisions):
        there = {
            column: next((i for i, seed in enumerate(seeds) if seed not in each), len(seeds))
            for column, each in paired[number].items()
        }
        complete = {name: sum(look <= n for look in looks) for name, n in there.items()}
        row = RowStanding(
            decisions=decisions[number], differences=paired[number], complete=complete
        )
        under_way = seeds[: looks[row.looks]] if row.open and row.looks < len(looks) else ()
        stuck = any(
            phase.identity in failed and not readings.read_result(phase)
            for each in (rows[number], baseline)
            for seed in under_way
            for column in row.open
            for phase in phases_behind(each.trials[seed], column)
        )
        stands[number] = replace(row, stuck=stuck)
    return Standing(plan=plan, readings=readings, rows=stands)


class Asking:
    """Says, again and again, what some studies ask for by now; those of fixed seeds ask for all."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """`plans`: over one store."""
        self._plans, self._store = plans, plans[0].store
        self._readings = FreshReadings(self._store)

    def __call__(self, failed: frozenset[str] = frozenset()) -> Asked:
        """Return what is asked for; `failed`: identities of phases whose trials failed.

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

            # of every try of a row the phases of as many seeds as it asks for
            found = find_standing(plan, self._readings, failed)
            for phases, seeds in zip((now, later), found.count_asked_seeds(), strict=True):
                for number, row in enumerate([*plan.rows, *plan.references]):
                    for each in row.tries:
                        for seed in plan.study.seeds[: seeds[number]]:
                            phases.update(each.trials[seed].result_id)
            if line := found.line():
                lines[plan.study.experiment, found.looks] = line
        return Asked(now=frozenset(now), later=frozenset(later), lines=lines)

    def find_failed(self) -> frozenset[str]:
        """Return the identities of phases of growing studies that failed and have no result."""
        growing = [plan for plan in self._plans if plan.study.grows]
        phases = {p.identity: p for plan in growing for trial in plan.cells for p in trial.phases}
        return frozenset(
            identity
            for identity, phase in phases.items()
            if not self._readings.read_result(phase) and self._readings.find_failure([phase])
        )

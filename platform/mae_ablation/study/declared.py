"""Declared: what a plan has to declare before its first result, and what its store says of that."""

from collections.abc import Sequence
from dataclasses import replace

from mae_ablation.errors import UserError
from mae_ablation.store import declaration
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.declaration import Declaration, declarations, that_stand
from mae_ablation.study.identity import identity
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.seeds import FEWEST
from mae_ablation.study.trial import Trial

TESTS = ("seeds", "looks", "alpha", "spending", "margin")
"""fields of a declaration that, with its rows, make its hash"""


def declaration_of(plan: Plan, results: int = 0) -> Declaration:
    """Return what a study declares, after so many results."""
    study, declared = plan.study, plan.study.declared
    everyone = [*plan.rows, *plan.references]
    baseline = next(i for i, row in enumerate(everyone) if row.is_baseline)
    # what is compared: evaluations, or pre-training's own loss or hours
    columns = ("hours",) if study.measure == "hours" else study.columns or ("loss",)
    meanings = [_without_seed(row) for row in everyone]
    rows = identity({"rows": meanings, "baseline": baseline, "columns": list(columns)})
    made = Declaration(
        study=study.name,
        rows=rows,
        labels=tuple(row.label for row in everyone),
        baseline=everyone[baseline].label,
        columns=columns,
        seeds=study.seeds,
        looks=declared.looks,
        alpha=declared.alpha,
        spending=declared.spending if study.grows else "",  # one look spends all
        margin=declared.margin,
        hash="",
        results=results,
    )
    return replace(made, hash=_hash(made))


def _hash(made: Declaration) -> str:
    said = {name: getattr(made, name) for name in ("rows", *TESTS)}
    return identity({n: list(v) if isinstance(v, tuple) else v for n, v in said.items()})


def require_unaltered(found: Declaration) -> None:
    """Raise Damaged if what a declaration says is not what its hash was made of."""
    if _hash(found) != found.hash:
        raise Damaged(f"the declaration of {found.study} is not the one that was hashed")


def _without_seed(row: Row) -> list[list[dict]]:
    """Return what a row's trainings mean, try by try, whatever their seed."""
    # a pre-training's upstream, its tokeniser or components, has no seed
    return [
        [
            {
                name: value
                for name, value in phase.document.items()
                if name != "seed" and (name != "upstream" or phase.kind == "pretrain")
            }
            for phase in each.some.phases
        ]
        for each in row.tries
    ]


def _results_seen(plan: Plan) -> int:
    """Count the results of the study's levels that its store has, at the study's seeds."""
    # seeds declared before any result, and too few to decide anything, end no study
    known = declarations(plan.store.files, declaration_of(plan).rows)
    few = {s for each in known if each.before and len(each.seeds) < FEWEST for s in each.seeds}

    # baseline and references belong to every study of the recipe, and alone show no difference
    columns = plan.study.columns if plan.study.measure != "hours" else ()
    phases = {
        phase.identity: phase
        for row in plan.rows
        if not row.is_baseline
        for trial in row.every_trial
        if trial.seed not in few
        for phase in trial.phases
        if phase.column in columns or not columns
    }
    return sum(phase.folder(plan.store).finished() for phase in phases.values())


def packed_declarations(plans: Sequence[Plan]) -> dict[str, bytes]:
    """Return the files of what was declared of some plans, by name."""
    return declaration.packed(plans[0].store.files, [declaration_of(plan).rows for plan in plans])


def declare_plan(plan: Plan) -> Declaration:
    """Write the plan's declaration into its store, if that has none; return the one in force.

    Raises:
        Damaged, OSError: a declaration cannot be read or written.
    """
    return declaration.declare(plan.store.files, declaration_of(plan, _results_seen(plan)))


def declared_lines(plans: Sequence[Plan], todo: Sequence[Trial]) -> list[str]:
    """Declare every study of which some of the trials `todo` are about to be run.

    Returns a line for each study whose tables are descriptive, or that grows.
    """
    # a declaration after the first result is worth nothing: this comes before anything is run
    about_to_run = {phase.identity for trial in todo for phase in trial.phases}
    lines = []
    for plan in plans:
        # of a study that is finished there is nothing left to declare before
        runs = any(p.identity in about_to_run for trial in plan.trials for p in trial.phases)
        try:
            known = declare_plan(plan) if runs else declared_in(plan)
            why = descriptive(plan)
        except OSError as error:
            raise UserError(f"cannot declare the study: {error}", str(plan.study.path)) from None
        if why:
            lines.append(f"{plan.study.name}: {why}")
        elif plan.study.grows and known:
            lines.append(f"{plan.study.name}: declared before the first result, {known.when}")
    return lines


def declared_in(plan: Plan) -> Declaration | None:
    """Return what the plan's store says of it; None where nothing was declared of its rows.

    Raises:
        Damaged, OSError: the store has a declaration that cannot be read.
    """
    # nothing is written: what was not declared as it is asked for now is as if declared now
    asked = declaration_of(plan)
    known = declarations(plan.store.files, asked.rows)
    if not known:
        return None
    found = declaration.in_force(known, asked)
    return found or replace(asked, results=_results_seen(plan))


def descriptive(plan: Plan) -> str:
    """Say that a plan's tables are descriptive only, and why; "" where they are not.

    Raises:
        Damaged, OSError: the store has a declaration that cannot be read.
    """
    found = declared_in(plan)
    if found is None:
        undeclared = "its looks were not declared before the first result"
        return f"This table is descriptive only: {undeclared}." if plan.study.grows else ""
    if found.before:
        return ""

    # seeds may be all that was added to an earlier declaration
    added = ""
    for each in that_stand(declarations(plan.store.files, found.rows)):
        if {*each.seeds} < {*found.seeds}:
            more = [seed for seed in found.seeds if seed not in each.seeds]
            first, then = (", ".join(map(str, seeds)) for seeds in (each.seeds, more))
            added = (
                f": seeds were added after results had been seen ({first} at first, then {then})"
            )
            break
    results = "1 result" if found.results == 1 else f"{found.results} results"
    return f"This table is descriptive only: declared after {results}{added}."

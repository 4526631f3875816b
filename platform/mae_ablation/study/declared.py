"""Declared: what a plan has to declare before its first result, and what its store says of that."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from mae_ablation.errors import UserError
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.declaration import (
    Declaration,
    declarations,
    declare,
    in_force,
    packed,
    that_stand,
)
from mae_ablation.study.identity import identity
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.seeds import FEWEST
from mae_ablation.study.trial import Trial


def declaration_of(plan: Plan, results: int = 0) -> Declaration:
    """Return what a study declares. `results`: that there are."""
    study, declared = plan.study, plan.study.declared
    everyone = [*plan.rows, *plan.references]
    rows = identity(
        {
            "rows": [without_seed(row) for row in everyone],
            "baseline": next(i for i, row in enumerate(everyone) if row.is_baseline),
            "columns": list(metrics_declared(plan)),
        }
    )
    tests = {
        "seeds": list(study.seeds),
        "looks": list(declared.looks),
        "alpha": declared.alpha,
        "spending": declared.spending if study.grows else "",  # one look spends all
        "margin": declared.margin,
    }
    return Declaration(
        study=study.name,
        rows=rows,
        labels=tuple(row.label for row in everyone),
        baseline=next(row.label for row in everyone if row.is_baseline),
        columns=metrics_declared(plan),
        hash=identity({"rows": rows, **tests}),
        results=results,
        **{**tests, "seeds": study.seeds, "looks": declared.looks},
    )


def require_sound(found: Declaration) -> None:
    """Raises Damaged if what a declaration says is not what its hash was made of."""
    said = asdict(found)
    kept = {name: said[name] for name in ("rows", "seeds", "looks", "alpha", "spending", "margin")}
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()}
    if identity(plain) != found.hash:
        raise Damaged(f"the declaration of {found.study} is not the one that was hashed")


def metrics_declared(plan: Plan) -> tuple[str, ...]:
    """Return what is compared: evaluations, or pre-training's own loss or hours."""
    if plan.study.measure == "hours":
        return ("hours",)
    return plan.study.columns or ("loss",)


def without_seed(row: Row) -> list[list[dict]]:
    """Return what a row's trainings mean, try by try, whatever their seed."""

    def meaning(trial: Trial) -> list[dict]:
        return [
            {
                name: value
                for name, value in phase.document.items()
                # a pre-training's upstream, its tokeniser or components, has no seed
                if name != "seed" and (name != "upstream" or phase.kind == "pretrain")
            }
            for phase in trial.phases
        ]

    return [meaning(each.some) for each in row.tries]


def results_seen(plan: Plan) -> int:
    """Results of the study's levels that its store has, at the study's seeds.

    Those of the baseline and of references are not counted: every study of the same recipe shares
    them, and alone they show no difference. Nor are those of seeds that were declared before any
    result and were too few to decide anything: a table of them ends no study.
    """
    columns = plan.study.columns
    known = declarations(plan.store.files, declaration_of(plan).rows)
    few = {s for each in known if each.before and len(each.seeds) < FEWEST for s in each.seeds}
    phases = {
        phase.identity: phase
        for row in plan.rows
        if not row.is_baseline
        for trial in row.every_trial
        for phase in trial.phases
        if trial.seed not in few
        if (phase.column in columns if columns and plan.study.measure != "hours" else True)
    }
    return sum(phase.folder(plan.store).finished() for phase in phases.values())


def packed_declarations(plans: Sequence[Plan]) -> dict[str, bytes]:
    """Return the files of what was declared of some plans, by name."""
    rows = [declaration_of(plan).rows for plan in plans]
    return packed(plans[0].store.files, rows)


def declare_plan(plan: Plan) -> Declaration:
    """Write the plan's declaration into its store, if that has none; returns the one in force.

    Raises:
        Damaged: the store has a declaration that cannot be read.
        OSError: the store cannot be written.
    """
    return declare(plan.store.files, declaration_of(plan, results_seen(plan)))


def declared_lines(plans: Sequence[Plan], todo: Sequence[Trial]) -> list[str]:
    """Declare every study that is to be run and is not declared yet.

    A study that is finished and was never declared is left as it is: there is nothing to declare
    before it.

    Args:
        todo: trials that are about to be run.

    Returns a line for each study whose tables are descriptive, or that grows.

    Raises:
        UserError: the store cannot be written.
    """
    about_to_run = {phase.identity for trial in todo for phase in trial.phases}
    lines = []
    for plan in plans:
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

    Writes nothing: what was not declared as it is asked for now is as if declared now.

    Raises:
        Damaged: the store has a declaration that cannot be read.
        OSError: the store cannot be read.
    """
    asked = declaration_of(plan)
    known = declarations(plan.store.files, asked.rows)
    if not known:
        return None
    return in_force(known, asked) or replace(asked, results=results_seen(plan))


def descriptive(plan: Plan) -> str:
    """That a plan's tables are descriptive only, and why, in a sentence; "" where they are not.

    Raises:
        Damaged, OSError: as `declared_in`.
    """
    found = declared_in(plan)
    if found is None:
        undeclared = "its looks were not declared before the first result"
        return f"This table is descriptive only: {undeclared}." if plan.study.grows else ""
    if found.before:
        return ""
    results = "1 result" if found.results == 1 else f"{found.results} results"
    return f"This table is descriptive only: declared after {results}{_added(plan, found)}."


def _added(plan: Plan, found: Declaration) -> str:
    """Which seeds were added to those of an earlier declaration; "" where that is not all."""
    known = declarations(plan.store.files, found.rows)
    first = next((each for each in that_stand(known) if {*each.seeds} < {*found.seeds}), None)
    if first is None:
        return ""
    added = [seed for seed in found.seeds if seed not in first.seeds]
    before, after = (", ".join(map(str, each)) for each in (first.seeds, added))
    return f": seeds were added after results had been seen ({before} at first, then {after})"

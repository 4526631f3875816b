"""Tells a person what a plan would do before it is run, and where the results lie afterwards."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.recipe.words import format_rate, format_schedule
from mae_ablation.report.choice import edge_lines
from mae_ablation.report.readings import Readings
from mae_ablation.report.spread import point_line
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.run.session import Session
from mae_ablation.study.budget import EQUAL, training_ratio
from mae_ablation.study.estimate import Estimate, cost_lines, estimate
from mae_ablation.study.plan import Plan, missing, trials_of, unfinished
from mae_ablation.study.provenance import plugin_lines
from mae_ablation.study.recipe_file import phases as all_phases
from mae_ablation.study.request import Request
from mae_ablation.study.seeds import seeds_line
from mae_ablation.study.suite import Suite
from mae_ablation.study.trial import steps_per_epoch, training_images
from mae_ablation.study.work import order_trials


def describe_plans(
    suites: Sequence[Suite],
    plans: Sequence[Plan],
    lanes: int = 1,
    *,
    cost: Estimate | None = None,
    price: float | None = None,
) -> str:
    """Describe some plans of these suites, and all of them together where they are several.

    Args:
        lanes: number that is assumed where `cost` of all of them is not given.
        price: of a GPU-hour.
    """
    # where studies grow, the first look costs least, and the most seeds most
    cost, growing = cost or estimate(plans, lanes), any(plan.study.grows for plan in plans)
    costs, few = cost_lines(cost, price), []
    if growing:
        first = [plan.up_to(plan.study.declared.looks[0]) for plan in plans]
        few = [f"first look, {e}" for e in cost_lines(estimate(first, machine=cost.machine), price)]
        costs = [f"at most, {line}" for line in costs]
    costs = [*plugin_lines(plans), *few, *costs]

    # several are described together, too
    if len(plans) == 1:
        return "\n".join([describe_study(plans[0]), *costs])
    last = "\n".join([describe_together(plans), *costs])
    return "\n\n".join([*map(str, suites), *map(describe_study, plans), last])


def plan_lines(session: Session, cost: Estimate, *, elsewhere: bool) -> list[str]:
    """Say what studies would do and cost, here or elsewhere, with their settings and trials."""
    request, plans = session.request, session.plans
    lines = [describe_plans(session.suites, plans, cost=cost, price=request.price)]
    lines += budget_lines(request)
    if elsewhere and not request.lanes:
        lines.append(
            "note: the cluster decides how many lanes there are, and on which devices; --lanes N "
            "and --gpus G are priced as such"
        )

    # the settings and trials of each study; of one that grows those of its first look
    for plan in plans:
        lines += [f"\n{plan.study.name}"] if len(plans) > 1 else []
        lines.append(settings_lines(plan.study.baseline, plan.study.phases))
        first = plan.up_to(plan.study.declared.looks[0])
        lines.append(trial_lines(first, cost.by_phase))
        if plan.study.grows:
            more = len(plan.trials) - len(first.trials)
            lines.append(
                f"  and {count_noun(more, 'trial')} at most of later looks, for undecided rows"
            )
    return lines


def budget_lines(request: Request) -> list[str]:
    """Say when a run leaves, whatever is decided by then."""
    given = (
        (request.hours, "hours"),
        (request.gpu_hours, "GPU-hours"),
        (request.max_cost, f"spent at {request.price or 0:g} a GPU-hour"),
    )
    said = [f"{value:g} {unit}" for value, unit in given if value is not None]
    return [f"budget: leaves after {' or '.join(said)}; the same command goes on"] if said else []


def describe_together(plans: Sequence[Plan]) -> str:
    """Say what several studies need together, beneath their own lines."""
    trials = trials_of(plans)
    alone = sum(len(plan.trials) for plan in plans)
    todo = missing(trials, plans[0].store)
    pretrainings = sum(trial.source == "pretrain" for trial in trials)
    return (
        f"together: {len(plans)} studies, "
        f"{alone} trials - {alone - len(trials)} shared between studies = {len(trials)} "
        f"({count_noun(pretrainings, 'distinct pre-training')}), {len(todo)} to run"
    )


def describe_study(plan: Plan) -> str:
    """Describe a study: its question, its data, its levels and its trials."""
    # the question and the data
    study, recipe = plan.study, plan.study.baseline
    trials, todo = plan.trials, plan.missing()
    rows = len(plan.rows) + len(plan.references)
    asked = rows * len(study.seeds) * study.tries
    tries = f" x {study.tries} tries" if study.tries > 1 else ""
    lines = [
        f"{study.name}: {study.title} (recipe {study.recipe_name}"
        + "".join(f", {change}" for change in study.changed)
        + (f"; reproduces {study.paper.replace('_', ' ')} of the paper)" if study.paper else ")"),
        f"data: {recipe.data.name}, {recipe.data.image_size} px in {recipe.grid} x {recipe.grid} "
        f"patches of {recipe.model.patch_size} px; lr {recipe.pretrain.base_lr:g} x "
        f"{recipe.pretrain.batch_size} / 256 = "
        f"{recipe.pretrain.base_lr * recipe.pretrain.batch_size / 256:g}",
    ]
    if plan.data.missing:
        lines.append(f"note: {plan.data.missing}")
    found = [(t.recipe.data.folder, t.data.left_out) for t in plan.trials if t.data.left_out]
    lines += [
        f"note: not taken of {folder}: {images}; `mae-ablation data {shlex.quote(folder)}` "
        "checks the rest"
        for folder, images in dict.fromkeys(found)
    ]

    # what is varied, and what is chosen or left out
    for factor in study.factors:
        lines.append(f"{factor.name}: " + list_names([level.label for level in factor.levels]))
        if (key := study.tracking_keys[factor.name]) != factor.name:
            lines.append(f'note: MLflow has it as "{key}"')
        if factor.left_out:
            lines.append(f"note: no counterpart at this scale for {', '.join(factor.left_out)}")
    lines += [each.line() for each in study.references]
    if study.design_words:
        lines.append(f"design: {study.design_words}")
    if study.tune:
        lines.append(str(study.tune))
        lines += edge_lines(plan, Readings(plan.store))
    if study.budget == "flops":
        lines += _flops_lines(plan)
    if study.skipped:
        every = ",".join(p for p in all_phases() if p in (*study.phases, *study.skipped))
        lines.append(
            f"note: {study.skipped_by} leaves out {', '.join(study.skipped)}; "
            f"--phases {every} runs {'it' if len(study.skipped) == 1 else 'them'} too"
        )

    # the trials
    if study.grows:
        lines.append(seeds_line(study.declared))
        first = study.declared.looks[0]
        few = plan.up_to(first).trials
        seeds = f"{first} to {len(study.seeds)} seeds"
        shared = dict.fromkeys((rows * first - len(few), asked - len(trials)))
        counts = f"{seeds} - {' to '.join(map(str, shared))} shared = {len(few)} to {len(trials)}"
    else:
        seeds = count_noun(len(study.seeds), "seed")
        counts = f"{seeds}{tries} - {asked - len(trials)} shared = {len(trials)}"
    lines.append(
        f"trials: ({len(plan.rows)} levels + {len(plan.references)} references) x {counts}; "
        f"{len(trials) - sum(t.source != 'prepare' for t in todo)} finished in "
        f"{plan.store.root}, {len(todo)} to run{' at most' * study.grows}"
    )
    lines += point_line(plan, Readings(plan.store)) if study.measure == "accuracy" else []
    for row in plan.rows:
        if row.same_as:
            lines.append(
                f"note: {row.factor.name} {row.label} and {row.same_as} are one training"
                + row.why_same()
            )
    return "\n".join(lines)


def _flops_lines(plan: Plan) -> list[str]:
    """List the steps of every level at equal FLOPs, and what the whole training comes to."""
    base, images = plan.study.baseline, training_images(plan.study.baseline, plan.data)
    cost = pretrain_flops(base, plan.data.channels)  # of an image
    steps = f"{base.pretrain.epochs} epochs of {steps_per_epoch(base, images)} steps"
    lines = [f"budget: the FLOPs of the baseline's {steps}"]
    for row in plan.rows:
        each = pretrain_flops(row.recipe, plan.data.channels)
        ratio = training_ratio(row.recipe, base, plan.data)
        steps = steps_per_epoch(row.recipe, training_images(row.recipe, plan.data))
        epochs = count_noun(row.recipe.pretrain.epochs, "epoch")
        lines.append(
            f"  {row.label:<24} {epochs:>11} of {count_noun(steps, 'step')} x "
            f"{each / cost:.2f} of the baseline's FLOPs per image = {ratio:.2f} of its training"
        )
        if abs(ratio - 1) > EQUAL:
            lines[-1] += ": not equal, the training has too few steps for that"
    return lines


def trial_lines(plan: Plan, seconds: Mapping[str, float] | None = None) -> str:
    """List every trial of a plan, once, in the order it will run.

    Args:
        seconds: estimated, by identity of a phase.
    """
    first = {t.needs.id: t.needs for t in plan.trials if t.needs}
    lines = []
    for trial in order_trials([*first.values(), *plan.trials], [plan], seconds or {}):
        todo = unfinished(trial, plan.store)
        state = "to run: " + ", ".join(p.prefix for p in todo) if todo else "finished"
        # a curriculum's first and last epoch, else one number
        counts = list(trial.recipe.kept_counts) if trial.source == "pretrain" else []
        ends = "-".join(str(count) for count in dict.fromkeys((*counts[:1], *counts[-1:])))
        kept = f"keeps {ends:>3}" if counts else ""
        lines.append(f"  {trial.id}  {trial.label:<32} {kept:<10} {state}")
    return "\n".join(lines)


def settings_lines(recipe: Recipe, phases: Sequence[str]) -> str:
    """Describe the baseline's settings, phase by phase."""
    m, p = recipe.model, recipe.pretrain
    lines = [
        f"model: encoder {m.encoder_width} x {m.encoder_depth} blocks ({m.encoder_heads} heads), "
        f"patch {m.patch_size}, decoder {m.decoder_width} x {m.decoder_depth} "
        f"({m.decoder_heads} heads)",
        f"pretrain: AdamW, {format_rate(p.base_lr, p.batch_size)}, weight decay "
        f"{p.weight_decay:g}, "
        f"betas {p.beta1:g} and {p.beta2:g}, {format_schedule(p)}, {p.augmentation}, "
        f"{p.mask_sampling} masking {100 * p.mask_ratio:g} %, target {p.target}",
    ]
    asked = [each for each in recipe.evaluations if each.component.name in phases]
    lines += [f"{each.component.name}: {each.settings_line(recipe)}" for each in asked]
    return "\n".join([*lines, *(note for each in asked for note in each.preset_notes(recipe))])


def describe_end(
    trials: int, tracker, files: dict[str, list[Path]], left: int, seconds: float
) -> str:
    """Say where the results and `files` of reports lie, and what to do about trials left."""
    from mae_ablation.tracking.address import hide_password, runs_url, server_uri

    lines = [f"{trials - left} of {trials} trials finished ({seconds / 60:.1f} min)"]
    if left:
        lines.append(f"{left} without a result; the same command tries them again")
    for report in files.values():
        lines.append(f"report: {report[0]}, {next(f for f in report if f.suffix == '.png')}")
    if tracker.trouble:
        lines.append(f"MLflow is behind ({tracker.trouble}): {tracker.remedy}")
    else:
        ui = f"start the UI with  {Path(sys.executable)} -m mae_ablation ui"
        lines.append(f"MLflow: {hide_password(there) if (there := server_uri()) else ui}")
        for experiment_id in tracker.experiment_ids():
            lines.append(f"        then open {runs_url(experiment_id)}")
    return "\n".join(lines)

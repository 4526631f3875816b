"""Tune: values that are no question of the study but have to be right at every level of it.

    tune:
      linear_probe.base_lr: [0.05, 0.1, 0.2]     # fields of the study's phases: their product
      linear_probe.weight_decay: [0, 1e-4]
      tries: 4                   # optional: a sample of the product, the same for every level
      scheduler: asha            # optional: stop what falls behind, epoch by epoch; default: none

Every level, and every reference that the field concerns, searches the same values with the same
budget. For each level one combination is taken, the one of the best mean validation accuracy over
all seeds (of equals the earlier); the table shows its test accuracy.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe.checks import Invalid
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import list_components
from mae_ablation.study.design import Varied
from mae_ablation.study.document import Document
from mae_ablation.study.settings import Setting, field_name, read_setting, require_once
from mae_ablation.study.values import Unreadable, format_given, format_value, to_whole

SCHEDULERS = ("none", "asha")
SAMPLE_SEED = 0
Values = tuple[Setting, ...]
"""one combination: a value of each tuned field"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tune:
    """What every level gets to search."""

    combinations: tuple[Values, ...]
    scheduler: Literal["none", "asha"]

    def name_of(self, field: str) -> str:
        """The field's last part, where only one of the tuned fields has it."""
        last = field.split(".")[1]
        fields = [setting.field for setting in self.combinations[0]]
        return last if sum(f.endswith(f".{last}") for f in fields) == 1 else field


def applied(recipe: Recipe, values: Values) -> Recipe:
    """A recipe with the values of one combination.

    Raises:
        UserError: one is impossible in it.
    """
    for setting in values:
        section, name = setting.field.split(".")
        try:
            part = replace(getattr(recipe, section), **{name: setting.value})
            recipe = replace(recipe, **{section: part})
        except Invalid as error:
            raise UserError(str(error), setting.place) from None
    return recipe


def tune_line(tune: Tune) -> str:
    """What every level searches, in a line."""
    by_field: dict[str, dict[Any, None]] = {}
    for values in tune.combinations:
        for setting in values:
            by_field.setdefault(tune.name_of(setting.field), {})[setting.value] = None
    fields = " x ".join(f"{name} {', '.join(map(str, found))}" for name, found in by_field.items())
    early = "; asha stops what falls behind" if tune.scheduler == "asha" else ""
    tries = len(tune.combinations)
    return f"tune: {fields}: {tries} tries of each level, chosen on validation{early}"


def read_tune(
    document: Document,
    said: Sequence[Setting],
    varied: Sequence[Varied],
    kept: Sequence[str],
    wanted: Sequence[str],
    skipped_by: str,
) -> Tune | None:
    """The study's `tune`; None where it has none, or none of a phase that is run.

    Args:
        said: settings of the recipe, the study and the command line.
        kept: phases that are run; fields of `wanted` ones that `skipped_by` leaves out go with
            them.

    Raises:
        UserError: a field that is a factor, or in no phase of the study, or a value it cannot have.
    """
    if "tune" not in document.data:
        return None
    given = document.data["tune"]
    fields = given if isinstance(given, dict) else {}
    fields = {name: values for name, values in fields.items() if name not in ("tries", "scheduler")}
    if not fields:
        message = "tune needs a field and its values, such as `linear_probe.base_lr: [0.1, 0.2]`"
        raise UserError(message, document.place("tune"))
    found: list[list[Setting]] = []
    for name in fields:
        values = _values(document, name, [*kept, *wanted])
        field = values[0].field
        require_once(field, name, [each[0].field for each in found], document.place("tune", name))
        _require_free(values[0], said, varied)
        found.append(values)
    found = [values for values in found if values[0].field.split(".")[0] in kept]
    scheduler = given.get("scheduler", "none")
    if scheduler not in SCHEDULERS:
        raise UserError(
            unknown("scheduler", scheduler, SCHEDULERS), document.place("tune", "scheduler")
        )
    if not found:
        return None
    left_out = [phase for phase in wanted if phase not in kept]
    if len(kept) < 2 and left_out:
        message = f"tune chooses by validation accuracy, and {skipped_by} leaves no evaluation"
        raise UserError(f"{message}: add {left_out[0]} to --phases", document.place("tune"))
    _require_choice(document, found, kept, scheduler)
    tried = _sample(document, list(product(*found)))
    if len(tried) < 2:
        message = "tune needs two combinations or more; a single value belongs under baseline"
        raise UserError(message, document.place("tune"))
    return Tune(combinations=tuple(tried), scheduler=scheduler)


def _values(document: Document, name: Any, phases: Sequence[str]) -> list[Setting]:
    """The values of one field, in their field's type."""
    place = document.place("tune", name)
    field = field_name(name, place, "tuned field")
    if field.endswith(".preset"):
        raise UserError(f"{field} cannot be tuned: name the fields that it sets", place)
    if field.split(".")[0] not in phases:
        raise UserError(f"{field} is in no phase of the study ({', '.join(phases)})", place)
    values = document.data["tune"][name]
    if not isinstance(values, list) or not values:
        raise UserError(f"{name} needs a list of values, such as [0.1, 0.2]", place)
    out: list[Setting] = []
    for i, value in enumerate(values):
        setting = read_setting(field, value, document.place("tune", name, i))
        if setting.value in [other.value for other in out]:
            message = f"value {format_value(setting.value)} of {name} is given twice"
            raise UserError(message, setting.place)
        out.append(setting)
    return out


def _require_free(tuned: Setting, said: Sequence[Setting], varied: Sequence[Varied]) -> None:
    """A tuned field is no factor's, and is not set on the command line."""
    for factor in varied:
        settings = [s for level in factor.levels for s in level.settings or ()]
        if tuned.field == factor.field or any(s.field == tuned.field for s in settings):
            message = f"{tuned.field} is tuned, and so is not a factor: it is one of {factor.key}"
            raise UserError(message, tuned.place)
    for setting in said:
        if setting.field == tuned.field and setting.place.startswith("--set "):
            raise UserError(f"the study tunes {tuned.field} ({tuned.place})", setting.place)


def _require_choice(
    document: Document, found: Sequence[Sequence[Setting]], kept: Sequence[str], scheduler: str
) -> None:
    """There is a validation accuracy to choose by, and to stop by where that is asked."""
    if len(kept) < 2 or document.data.get("measure") == "hours":
        message = "tune chooses by validation accuracy: the study needs an evaluation, and no hours"
        raise UserError(message, document.place("tune"))
    fields = [values[0].field for values in found]
    if document.data.get("budget") == "flops" and "pretrain.epochs" in fields:
        raise UserError("budget flops sets the epochs: they cannot be tuned", found[0][0].place)
    sections = {field.split(".")[0] for field in fields}
    by_epoch = [each.name for each in list_components("evaluation") if each.cls.by_epoch]
    if scheduler == "asha" and (len(sections) > 1 or not sections <= set(by_epoch)):
        message = (
            "asha stops by the validation accuracy after an epoch: it tunes fields of one of "
            f"{', '.join(by_epoch)}, not of {' and '.join(sorted(sections))}"
        )
        raise UserError(message, document.place("tune", "scheduler"))


def _sample(document: Document, every: list[Values]) -> list[Values]:
    """All combinations, or so many of them as `tries` says, in their order."""
    given, place = document.data["tune"].get("tries"), document.place("tune", "tries")
    if given is None:
        return every
    try:
        tries = to_whole(given) if isinstance(given, str) else 0
    except Unreadable:
        tries = 0
    if tries < 1:
        message = f"tries must be a whole number from 1, not {format_given(given)}"
        raise UserError(message, place)
    if tries > len(every):
        message = f"tries is {tries}, but there are only {len(every)} combinations"
        raise UserError(f"{message}: use {len(every)} or fewer", place)
    chosen = random.Random(SAMPLE_SEED).sample(range(len(every)), tries)
    return [every[i] for i in sorted(chosen)]

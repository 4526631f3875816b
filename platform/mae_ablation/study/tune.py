"""Tune: values that are no question of the study but have to be right at every level of it.

    tune:
      linear_probe.base_lr: [0.05, 0.1, 0.2]     # fields of the study's phases: their product
      linear_probe.weight_decay: [0, 1e-4]
      scheduler: asha            # optional: stop what falls behind, epoch by epoch; default: none

Every level, and every reference that the field concerns, searches the same values with the same
budget. For each level one combination is taken, the one of the best mean validation accuracy over
all seeds (of equals the earlier); the table shows its test accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe.checks import Invalid
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import list_components
from mae_ablation.study.document import Document
from mae_ablation.study.factors import FileFactor
from mae_ablation.study.settings import Setting, field_name, read_setting, require_once
from mae_ablation.study.values import format_value

SCHEDULERS = ("none", "asha")
Values = tuple[Setting, ...]
"""one combination: a value of each tuned field"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tune:
    """The values that every level gets to search, and what may stop a search early."""

    combinations: tuple[Values, ...]
    scheduler: Literal["none", "asha"]

    def name_of(self, field: str) -> str:
        """Return the field's last part, where only one of the tuned fields has it."""
        last = field.split(".")[1]
        fields = [setting.field for setting in self.combinations[0]]
        return last if sum(f.endswith(f".{last}") for f in fields) == 1 else field

    def __str__(self) -> str:
        """Say what every level searches, in a line."""
        by_field: dict[str, dict[Any, None]] = {}
        for values in self.combinations:
            for setting in values:
                by_field.setdefault(self.name_of(setting.field), {})[setting.value] = None
        fields = " x ".join(f"{name} {', '.join(map(str, by_field[name]))}" for name in by_field)
        early = "; asha stops what falls behind" if self.scheduler == "asha" else ""
        tries = len(self.combinations)
        return f"tune: {fields}: {tries} tries of each level, chosen on validation{early}"


def applied(recipe: Recipe, values: Values) -> Recipe:
    """Return a recipe with the values of one combination."""
    for setting in values:
        section, name = setting.field.split(".")
        try:
            part = replace(getattr(recipe, section), **{name: setting.value})
            recipe = replace(recipe, **{section: part})
        except Invalid as error:
            raise UserError(str(error), setting.place) from None
    return recipe


def read_tune(
    document: Document,
    said: Sequence[Setting],
    varied: Sequence[FileFactor],
    kept: Sequence[str],
    wanted: Sequence[str],
    skipped_by: str,
) -> Tune | None:
    """Return the study's `tune`; None where it has none, or none of a phase that is run.

    Args:
        said: settings of the recipe, the study and the command line.
        kept: phases that are run; fields of `wanted` ones that `skipped_by` leaves out go with
            them.
    """
    if "tune" not in document.data:
        return None
    given = document.data["tune"]
    names = [name for name in given if name != "scheduler"] if isinstance(given, dict) else []
    if not names:
        message = "tune needs a field and its values, such as `linear_probe.base_lr: [0.1, 0.2]`"
        raise UserError(message, document.place("tune"))

    # every field once, and none that is set elsewhere
    found: list[list[Setting]] = []
    for name in names:
        values = _read_values(document, name, [*kept, *wanted])
        field = values[0].field
        require_once(field, name, [each[0].field for each in found], document.place("tune", name))
        _require_free(values[0], said, varied)
        found.append(values)
    scheduler = given.get("scheduler", "none")
    if scheduler not in SCHEDULERS:
        place = document.place("tune", "scheduler")
        raise UserError(unknown("scheduler", scheduler, SCHEDULERS), place)

    # fields of phases that are not run go with them
    found = [values for values in found if values[0].field.split(".")[0] in kept]
    if not found:
        return None

    # something to choose by, and something to choose from
    left_out = [phase for phase in wanted if phase not in kept]
    if len(kept) < 2 and left_out:
        message = f"tune chooses by validation accuracy, and {skipped_by} leaves no evaluation"
        raise UserError(f"{message}: add {left_out[0]} to --phases", document.place("tune"))
    _require_accuracy(document, found, kept, scheduler)
    tried = list(product(*found))
    if len(tried) < 2:
        message = "tune needs two combinations or more; a single value belongs under baseline"
        raise UserError(message, document.place("tune"))
    return Tune(combinations=tuple(tried), scheduler=scheduler)


def _read_values(document: Document, name: Any, phases: Sequence[str]) -> list[Setting]:
    """Return the values of one field, in their field's type."""
    # a field of a phase that the study has, by its own values and not by a preset's
    place = document.place("tune", name)
    field = field_name(name, place, "tuned field")
    if field.endswith(".preset"):
        raise UserError(f"{field} cannot be tuned: name the fields that it sets", place)
    if field.split(".")[0] not in phases:
        raise UserError(f"{field} is in no phase of the study ({', '.join(phases)})", place)
    values = document.data["tune"][name]
    if not isinstance(values, list) or not values:
        raise UserError(f"{name} needs a list of values, such as [0.1, 0.2]", place)

    # 0.1 and 1e-1 are one value
    out: list[Setting] = []
    for i, value in enumerate(values):
        setting = read_setting(field, value, document.place("tune", name, i))
        if setting.value in [other.value for other in out]:
            message = f"value {format_value(setting.value)} of {name} is given twice"
            raise UserError(message, setting.place)
        out.append(setting)
    return out


def _require_free(tuned: Setting, said: Sequence[Setting], varied: Sequence[FileFactor]) -> None:
    """Refuse to tune a field that a factor or the command line sets."""
    for factor in varied:
        if tuned.field in {factor.field, *factor.fields}:
            message = f"{tuned.field} is tuned, and so is not a factor: it is one of {factor.key}"
            raise UserError(message, tuned.place)
    for setting in said:
        if setting.field == tuned.field and setting.place.startswith("--set "):
            raise UserError(f"the study tunes {tuned.field} ({tuned.place})", setting.place)


def _require_accuracy(
    document: Document, found: Sequence[Sequence[Setting]], kept: Sequence[str], scheduler: str
) -> None:
    """Refuse a search without a validation accuracy to choose by, or to stop by if it is to."""
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

"""The quantities that a table shows: what they are called, and how exact the paper's numbers are.

What is said of an evaluation's stands with it, in the registry.
"""

from dataclasses import dataclass
from functools import lru_cache

from mae_ablation.registry import forgets, list_components, metrics_of
from mae_ablation.study.plan import Plan
from mae_ablation.study.reference import Reference

LOSS, HOURS = "pretrain_loss", "pretrain_hours"

# points by which seeds move a difference of fine-tuned models (the official code's own seeds spread
# by 0.07 to 0.08; paper_numbers.yaml).
NOISE = 0.2

# points by which a linear probe that is trained again moves at most (the official code's models
# against the paper's: 0.2, 0.2 and 0.6 points for ViT-B, L and H).
PROBE_NOISE = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A metric's names, and its place in a table."""

    column: str  # evaluation it belongs to
    number: str  # its name in a result, behind "test_"
    title: str
    axis: str
    head: str  # short title, for narrow columns
    margin: float = 0.0
    """points within which a difference of the paper's, which has one seed, counts as none"""
    place: int = 9  # place among the paper's columns


@forgets
@lru_cache(maxsize=1)
def known_quantities() -> dict[str, Quantity]:
    """List every metric that a table may show, by name."""
    found = {}
    for component in list_components("evaluation"):
        cls, name = component.cls, component.name
        for metric, (number, title) in metrics_of(name).items():
            small = title[0].lower() + title[1:]
            found[metric] = Quantity(
                column=name,
                number=number,
                title=title,
                axis=f"{small}, test top-1 (%)" if number == "acc1" else f"{small}, test",
                head=cls.head if cls.head and number == "acc1" else title,
                margin=cls.paper_noise,
                place=cls.place_in_table_1,
            )
    for metric, head, title, axis in (
        (LOSS, "loss", "Pre-training loss", "pre-training loss"),
        (HOURS, "hours", "Wall-clock of pre-training", "pre-training (hours)"),
    ):
        about = {"title": title, "axis": axis, "place": 10}
        found[metric] = Quantity(column=head, number="", head=head, **about)
    return found


def quantity_of(metric: str) -> Quantity:
    """Look a metric up; one of another program's report has its name alone."""
    bare = Quantity(column=metric, number="", title=metric, axis=metric, head=metric)
    return known_quantities().get(metric, bare)


def list_metrics(plan: Plan) -> list[str]:
    """List a study's quantities: those of each evaluation, the loss where there is none, or hours
    of pre-training where the study measures those."""
    if plan.study.measure == "hours":
        return [HOURS]
    return [metric for column in plan.study.columns for metric in metrics_of(column)] or [LOSS]


def evaluation_of(metric: str) -> str:
    """Return the phase a metric belongs to: "linear_probe_acc1" gives "linear_probe"."""
    return quantity_of(metric).column


def references_of(plan: Plan, metric: str) -> list[Reference]:
    """List the study's references that have numbers of a metric, which is a top-1 accuracy."""
    column = evaluation_of(metric) if quantity_of(metric).number == "acc1" else ""
    return [each for each in plan.study.references if each.evaluation == column]


def is_accuracy(metric: str) -> bool:
    return metric not in (LOSS, HOURS)


def count_decimals(metric: str) -> int:
    """Return the digits behind the point: accuracies are per cent, losses and hours small."""
    return 2 if is_accuracy(metric) else 4

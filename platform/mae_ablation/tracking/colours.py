"""Colours of runs in the UI's table and curves: one for each level, whatever the seed.

Colour-blind safe: viridis without its lightest end where levels have an order, the palette of Okabe
and Ito where they are names, greys for what has no pre-training.
"""

from mae_ablation.study.plan import Plan, Row

COLOUR = "mlflow.runColor"
"""tag"""
VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#c2df23")
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREYS = ("#595959", "#8c8c8c", "#b3b3b3")
BASELINE = "#000000"
"""where no level equals it"""


def colours(plan: Plan) -> dict[tuple[str, ...], str]:
    """By a trial's result_id; what stands in several rows has the first one's."""
    found: dict[tuple[str, ...], str] = {}
    levels = [row for row in plan.rows if row.level and not row.same_as]
    pairs = [(row, BASELINE) for row in plan.rows if not row.level]
    pairs += zip(levels, palette(levels), strict=True)
    pairs += zip(plan.references, GREYS, strict=False)
    for row, colour in pairs:
        for trial in row.every_trial:
            found.setdefault(trial.result_id, colour)
    return found


def palette(rows: list[Row]) -> list[str]:
    if not ordered(rows) and len(rows) <= len(OKABE_ITO):
        return list(OKABE_ITO[: len(rows)])
    values = [row.level.value for row in rows]
    places = sorted(range(len(rows)), key=values.__getitem__) if ordered(rows) else range(len(rows))
    rank = {place: i for i, place in enumerate(places)}
    return [sequential(rank[i] / max(1, len(rows) - 1)) for i in range(len(rows))]


def ordered(rows: list[Row]) -> bool:
    """Levels of one factor that are numbers."""
    numbers = all(type(row.level.value) in (int, float) for row in rows)
    return numbers and len({row.factor.name for row in rows}) == 1


def sequential(share: float) -> str:
    """Colour at 0 to 1 of viridis, between its two nearest anchors."""
    at = share * (len(VIRIDIS) - 1)
    i = min(int(at), len(VIRIDIS) - 2)
    ends = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in VIRIDIS[i : i + 2]]
    mixed = (round(a + (b - a) * (at - i)) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)

"""What a run says of its trial: name, tags, colour, params, settings and results."""

from datetime import datetime

import yaml
from mlflow.entities import Metric, Param

from mae_ablation.registry import metrics_of
from mae_ablation.study.names import cut
from mae_ablation.study.plan import Plan, Row, best
from mae_ablation.study.provenance import plugins_in
from mae_ablation.study.study import Study
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.values import Unreadable, are_numbers, to_number
from mae_ablation.tracking.uploader import PICTURES, PICTURES_LENT

LENT = "each patch has its true mean and contrast, removed ones too: the model predicts normalised"
RESULT_NAMES = {
    "train_loss": "loss",
    "images_per_s": "images_per_s",
    "mfu": "mfu",
    "seconds": "seconds",
}
"""Numbers of a result, as a run's metrics call them."""

MOST_NAME, MOST_PATH, MOST_VALUE = 250, 500, 6000
"""Characters that MLflow's databases have room for: of a run's name, its source, a param."""

COLOUR = "mlflow.runColor"
"""Tag of a run's colour in the UI's table and curves: one for each level, whatever the seed."""

VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#c2df23")
"""Without its lightest end; for levels that are numbers. All are colour-blind safe."""

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""For named levels."""

GREYS = ("#595959", "#8c8c8c", "#b3b3b3")
"""For what has no pre-training."""

BASELINE = "#000000"
"""For a baseline that no level equals."""


def run_name(trial: Trial) -> str:
    """Name a run "0.75 · s0": what the UI's narrow column has room for."""
    before, found, after = trial.name.rpartition(" seed ")
    text = f"{before} · s{after}" if found else trial.name
    crossed = text.count("=") > 1
    return cut(text if crossed else text.split("=")[-1], MOST_NAME)


def make_tags(plan: Plan, trial: Trial, colour: str) -> dict[str, str]:
    """Make the tags that a run has from its beginning."""
    pretrained = trial.source == "pretrain"
    keys = plan.study.tracking_keys if pretrained else {}
    return {
        "kind": "trial" if pretrained else "reference",
        "study": plan.study.name,
        "trial_id": trial.id,
        COLOUR: colour,
        "mlflow.source.name": cut(str(plan.study.path), MOST_PATH),
        "mlflow.source.type": "LOCAL",
        **{f"factor.{key}": name for name, key in keys.items() if key != name},
        **({"plugins": words} if (words := plugins_in(trial.phases)) else {}),
        **({"pictures": LENT} if _lends_statistics(trial) else {}),
    }


def choose_colours(plan: Plan) -> dict[tuple[str, ...], str]:
    """Choose a colour by a trial's result_id; what stands in several rows has the first one's."""
    found: dict[tuple[str, ...], str] = {}
    levels = [row for row in plan.rows if row.level and not row.same_as]
    pairs = [(row, BASELINE) for row in plan.rows if not row.level]
    pairs += zip(levels, _palette(levels), strict=True)
    pairs += zip(plan.references, GREYS, strict=False)
    for row, colour in pairs:
        for trial in row.every_trial:
            found.setdefault(trial.result_id, colour)
    return found


def _palette(rows: list[Row]) -> list[str]:
    """Return colours of levels: by value where those of one factor are numbers, else by place."""
    values = [row.level.value for row in rows]
    ordered = are_numbers(values) and len({row.factor.name for row in rows}) == 1
    if not ordered and len(rows) <= len(OKABE_ITO):
        return list(OKABE_ITO[: len(rows)])
    places = sorted(range(len(rows)), key=values.__getitem__) if ordered else range(len(rows))
    rank = {place: i for i, place in enumerate(places)}
    return [mix_viridis(rank[i] / max(1, len(rows) - 1)) for i in range(len(rows))]


def mix_viridis(share: float) -> str:
    """Return the colour at 0 to 1 of viridis, between its two nearest anchors."""
    at = share * (len(VIRIDIS) - 1)
    i = min(int(at), len(VIRIDIS) - 2)
    ends = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in VIRIDIS[i : i + 2]]
    mixed = (round(a + (b - a) * (at - i)) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def make_params(plan: Plan, trial: Trial) -> list[Param]:
    """Make the params: seed, recipe, what is tuned and each factor's level."""
    study = plan.study
    params = [
        Param("seed", str(trial.seed)),
        Param("recipe", " ".join([study.recipe_name, *study.changed])),
        *(Param(name, str(value)) for name, value in plan.tuned(trial)),
    ]
    params += [
        Param(study.tracking_keys[factor.name], str(plan.level_label(trial, factor)))
        for factor in (study.factors if trial.source == "pretrain" else ())
    ]
    return [Param(param.key, cut(param.value, MOST_VALUE)) for param in params]


def number_levels(study: Study) -> dict[str, dict[str, float]]:
    """Return each level's number, or its place in the study where it is a name, such as "nan"; by a
    factor's key and the level's name."""
    return {
        study.tracking_keys[factor.name]: {
            level.name: float(level.value if are_numbers([level.value]) else i)
            for i, level in enumerate(factor.levels)
        }
        for factor in study.factors
    }


def factor_metrics(params: list[Param], numbers: dict[str, dict[str, float]]) -> list[Metric]:
    """Make levels metrics, since MLflow sorts params as text; `numbers`: of `number_levels`."""
    found = []
    for param in params:
        if param.key not in numbers:
            continue
        try:
            number = numbers[param.key].get(param.value)
            number = to_number(param.value) if number is None else number  # the baseline's
        except Unreadable:
            continue
        found.append(Metric(f"factor_{param.key}", number, 0, 0))
    return found


def dump_settings(trial: Trial) -> str:
    """Write everything that was hashed into the trial's phases as YAML."""
    documents = {phase.prefix: phase.document for phase in trial.phases}
    if trial.needs:
        needed = trial.needs.phases[0]
        documents = {needed.kind: needed.document, **documents}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(documents, Dumper=dumper)


def result_metrics(
    trial: Trial, results: dict[str, dict], new: set[str], columns: tuple[str, ...]
) -> list[Metric]:
    """Make metrics of the new ones of the finished phases, at the time they were reached: the same
    again is the same point. `results` and `new` go by identity."""
    metrics = []
    for phase in trial.phases:
        result = results[phase.identity] if phase.identity in new else {}
        metrics += [
            Metric(f"{phase.prefix}_{shown}", round(result[name], 4), finished_at(result), 0)
            for name, shown in {**RESULT_NAMES, **_numbers_of(phase)}.items()
            if name in result
        ]

    # of an evaluation that was tried several times, the best one under the column's own name
    for column in columns:
        tried = [(p, results.get(p.identity)) for p in trial.phases if p.column == column]
        fresh = any(phase.identity in new for phase, _ in tried)
        if fresh and all(result for _, result in tried):
            phase, result = best(tried)
            if phase.prefix != column:
                metrics += [
                    Metric(key, round(result[f"test_{name}"], 4), finished_at(result), 0)
                    for key, (name, _) in metrics_of(column).items()
                ]
    return metrics


def _numbers_of(phase: Phase) -> dict[str, str]:
    """Map a result's keys of an evaluation's numbers to their names."""
    if not phase.is_evaluation:
        return {}
    return {f"test_{name}": name for name, _ in metrics_of(phase.kind).values()}


def finished_at(result: dict) -> int:
    """Return when a phase was finished as MLflow counts time: milliseconds since 1970."""
    moment = result["finished_at"].replace("Z", "+00:00")
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def result_tags(results: list[dict]) -> dict[str, str]:
    """Make tags of the code's commit, and of a trial's attempts where they are more than one."""
    attempts = max(result.get("attempts", 1) for result in results)
    tags = {"mlflow.source.git.commit": results[-1]["commit"].split("+")[0]}
    return tags | ({"attempt": str(attempts)} if attempts > 1 else {})


def _lends_statistics(trial: Trial) -> bool:
    """Say whether a trial's pictures borrow each removed patch's true mean and contrast."""
    return trial.source == "pretrain" and trial.recipe.target.lends_statistics


def picture_key(trial: Trial) -> str:
    return PICTURES_LENT if _lends_statistics(trial) else PICTURES


def tracked_metrics(study: Study) -> list[str]:
    """List the metrics a study is about."""
    if study.measure == "hours":
        return ["pretrain_seconds"]
    found = [metric for column in study.columns for metric in metrics_of(column)]
    return found or ["pretrain_loss"]

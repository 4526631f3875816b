"""Describes a trial as its run shows it: name, tags, colour, params, settings and results."""

from contextlib import suppress
from datetime import datetime

import yaml
from mlflow.entities import Metric, Param

from mae_ablation.registry import metrics_of
from mae_ablation.study.names import cut
from mae_ablation.study.plan import Plan, pick_best
from mae_ablation.study.provenance import plugins_in
from mae_ablation.study.study import Study
from mae_ablation.study.trial import Trial
from mae_ablation.study.values import Unreadable, are_numbers, to_number

PICTURES, PICTURES_LENT = "reconstruction", "reconstruction with true patch statistics"
"""Names of pictures in the UI. Lent: the model predicts normalised patches, so what is seen is
better than what it said, as each removed patch has its true mean and contrast."""

RESULT_NAMES = {name: name for name in ("images_per_s", "mfu", "seconds")} | {"train_loss": "loss"}
"""Numbers of a result, as a run's metrics call them."""

MOST_NAME, MOST_PATH, MOST_VALUE = 250, 500, 6000
"""Characters that MLflow's databases have room for: of a run's name, its source, a param."""

COLOUR = "mlflow.runColor"
"""Tag of a run's colour in the UI's table and curves: one for each level, whatever the seed."""

# colour-blind safe: by value (without the lightest end), by name, and without a pre-training
VIRIDIS = ("#440154", "#482878", "#3e4a89", "#30698e", "#25848e")
VIRIDIS += ("#1fa088", "#38b977", "#73d056", "#bddf26")
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREYS = ("#595959", "#8c8c8c", "#b3b3b3")
BASELINE = "#000000"
"""Colour of a baseline that no level equals."""


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
        # factors whose name is too long for a param
        **{f"factor.{key}": name for name, key in keys.items() if key != name},
        **({"plugins": words} if (words := plugins_in(trial.phases)) else {}),
    }


def choose_colours(plan: Plan) -> dict[tuple[str, ...], str]:
    """Choose a colour by a trial's result_id; what stands in several rows has the first one's."""
    # levels: in the order of their values where those of one factor are numbers
    levels = [row for row in plan.rows if row.level and not row.same_as]
    one_factor = len({row.factor.name for row in levels}) == 1
    if ordered := one_factor and are_numbers([row.level.value for row in levels]):
        levels.sort(key=lambda row: row.level.value)
    step = (len(VIRIDIS) - 1) / max(1, len(levels) - 1)  # neighbours of more than nine share one
    shades = [VIRIDIS[round(i * step)] for i in range(len(levels))]
    few = len(levels) <= len(OKABE_ITO) and not ordered

    # a baseline in black, levels in colour, references in grey
    pairs = [(row, BASELINE) for row in plan.rows if not row.level]
    pairs += zip(levels, OKABE_ITO if few else shades, strict=False)
    pairs += zip(plan.references, GREYS, strict=False)
    found: dict[tuple[str, ...], str] = {}
    for row, colour in pairs:
        for trial in row.every_trial:
            found.setdefault(trial.result_id, colour)
    return found


def make_params(plan: Plan, trial: Trial) -> list[Param]:
    """Make the params: seed, recipe, what is tuned and each factor's level."""
    study = plan.study
    values = [("seed", trial.seed), ("recipe", " ".join([study.recipe_name, *study.changed]))]
    values += plan.tuned(trial)
    if trial.source == "pretrain":
        values += [(study.tracking_keys[f.name], plan.level_label(trial, f)) for f in study.factors]
    return [Param(key, cut(str(value), MOST_VALUE)) for key, value in values]


def number_levels(study: Study) -> dict[str, dict[str, float]]:
    """Return each level's number by a factor's key and the level's name.

    A level that is a name, such as "nan", has its place in the study as its number.
    """
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
    for param in (param for param in params if param.key in numbers):
        number = numbers[param.key].get(param.value)
        with suppress(Unreadable):  # the baseline's may be no level, and a name
            number = to_number(param.value) if number is None else number
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
    """Make metrics of the new ones of the finished phases. `results` and `new` go by identity."""
    # at the time they were reached, so that the same again is the same point
    metrics = []
    for phase in trial.phases:
        result = results[phase.identity] if phase.identity in new else {}
        measured = metrics_of(phase.kind).values() if phase.is_evaluation else ()
        metrics += [
            Metric(f"{phase.prefix}_{shown}", round(result[name], 4), finished_at(result), 0)
            for name, shown in {**RESULT_NAMES, **{f"test_{n}": n for n, _ in measured}}.items()
            if name in result
        ]

    # of an evaluation that was tried several times, the best one under the column's own name
    for column in columns:
        tried = [(p, results.get(p.identity)) for p in trial.phases if p.column == column]
        fresh = any(phase.identity in new for phase, _ in tried)
        if fresh and all(result for _, result in tried):
            phase, result = pick_best(tried)
            if phase.prefix != column:
                metrics += [
                    Metric(key, round(result[f"test_{name}"], 4), finished_at(result), 0)
                    for key, (name, _) in metrics_of(column).items()
                ]
    return metrics


def finished_at(result: dict) -> int:
    """Return when a phase was finished as MLflow counts time: milliseconds since 1970."""
    moment = result["finished_at"].replace("Z", "+00:00")
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def result_tags(results: list[dict]) -> dict[str, str]:
    """Make tags of the code's commit, and of a trial's attempts where they are more than one."""
    attempts = max(result.get("attempts", 1) for result in results)
    # "+" begins the mark of a dirty working tree
    tags = {"mlflow.source.git.commit": results[-1]["commit"].split("+")[0]}
    return tags | ({"attempt": str(attempts)} if attempts > 1 else {})


def picture_key(trial: Trial) -> str:
    """Return the name under which the UI shows a trial's pictures."""
    lent = trial.source == "pretrain" and trial.recipe.target.lends_statistics
    return PICTURES_LENT if lent else PICTURES

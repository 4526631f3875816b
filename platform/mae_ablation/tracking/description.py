"""What a run says of its trial: name, tags, params, settings and results."""

from datetime import datetime

import yaml
from mlflow.entities import Metric, Param

from mae_ablation.study.names import cut
from mae_ablation.study.plan import Plan, best
from mae_ablation.study.study import Study
from mae_ablation.study.trial import Trial
from mae_ablation.study.values import Unreadable, to_number
from mae_ablation.tracking.colours import COLOUR
from mae_ablation.tracking.uploader import PICTURES, PICTURES_LENT

LENT = "each patch has its true mean and contrast, removed ones too: the model predicts normalised"
NAMES = {
    "test_acc1": "acc1",
    "train_loss": "loss",
    "images_per_s": "images_per_s",
    "mfu": "mfu",
    "seconds": "seconds",
}
"""numbers of a result, as a run's metrics call them"""
MOST_NAME, MOST_PATH, MOST_VALUE = 250, 500, 6000
"""characters that MLflow's databases have room for: of a run's name, its source, a param"""


def run_name(trial: Trial) -> str:
    """ "0.75 · s0": what the UI's narrow column has room for."""
    before, found, after = trial.name.rpartition(" seed ")
    text = f"{before} · s{after}" if found else trial.name
    # several: crossed factors
    return cut(text.split("=")[-1] if text.count("=") == 1 else text, MOST_NAME)


def tags_of(plan: Plan, trial: Trial, colour: str) -> dict[str, str]:
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
        **({"pictures": LENT} if lends_statistics(trial) else {}),
    }


def params_of(plan: Plan, trial: Trial) -> list[Param]:
    """Seed, recipe, what is tuned and each factor's level."""
    study = plan.study
    params = [
        Param("seed", str(trial.seed)),
        Param("recipe", " ".join([study.recipe_name, *study.changed])),
        *(Param(name, str(value)) for name, value in plan.tuned(trial)),
    ]
    keys = study.tracking_keys
    params += [
        Param(keys[factor.name], str(plan.level_label(trial, factor)))
        for factor in (study.factors if trial.source == "pretrain" else ())
    ]
    return [Param(param.key, cut(param.value, MOST_VALUE)) for param in params]


def factor_metrics(params: list[Param], places: dict[str, dict[str, float]]) -> list[Metric]:
    """Levels as numbers, since MLflow sorts params as text: their value, or their place in the
    study (`places`, by a factor's key and name) where they are names."""
    found = [(param.key, sort_key(param.value, places.get(param.key))) for param in params]
    return [Metric(f"factor_{name}", key, 0, 0) for name, key in found if key is not None]


def places_of(study: Study) -> dict[str, dict[str, float]]:
    """Each level's number, or its place in the study where it is a name, such as "nan"."""
    return {
        study.tracking_keys[factor.name]: {
            level.name: float(level.value if type(level.value) in (int, float) else i)
            for i, level in enumerate(factor.levels)
        }
        for factor in study.factors
    }


def sort_key(value: str, places: dict[str, float] | None) -> float | None:
    """A level's number or place, or a baseline's number; None: neither, or no level at all."""
    if places is None:
        return None
    if value in places:
        return places[value]
    try:
        return to_number(value)
    except Unreadable:
        return None


def settings_of(trial: Trial) -> str:
    """YAML of everything that was hashed into the trial's phases."""
    documents = {phase.prefix: phase.document for phase in trial.phases}
    if trial.needs:
        needed = trial.needs.phases[0]
        documents = {needed.kind: needed.document, **documents}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(documents, Dumper=dumper)


def result_metrics(
    trial: Trial, results: dict[str, dict], new: set[str], columns: tuple[str, ...]
) -> list[Metric]:
    """What the new ones of the finished phases add, at the time it was reached: the same again is
    the same point. `results` and `new` go by identity."""
    metrics = []
    for phase in trial.phases:
        result = results[phase.identity] if phase.identity in new else {}
        metrics += [
            Metric(f"{phase.prefix}_{shown}", round(result[name], 4), finished_at(result), 0)
            for name, shown in NAMES.items()
            if name in result
        ]
    for column in columns:
        tried = [(p, results.get(p.identity)) for p in trial.phases if p.column == column]
        fresh = any(phase.identity in new for phase, _ in tried)
        if fresh and all(result for _, result in tried):
            phase, result = best(tried)
            if phase.prefix != column:
                value = round(result["test_acc1"], 4)
                metrics.append(Metric(f"{column}_acc1", value, finished_at(result), 0))
    return metrics


def finished_at(result: dict) -> int:
    """As MLflow counts time: milliseconds since 1970."""
    moment = result["finished_at"].replace("Z", "+00:00")
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def result_tags(results: list[dict]) -> dict[str, str]:
    """Commit of the code, and how many attempts a trial took where that is more than one."""
    attempts = max(result.get("attempts", 1) for result in results)
    tags = {"mlflow.source.git.commit": results[-1]["commit"].split("+")[0]}
    return tags | ({"attempt": str(attempts)} if attempts > 1 else {})


def lends_statistics(trial: Trial) -> bool:
    """Whether its pictures borrow each removed patch's true mean and contrast."""
    return trial.source == "pretrain" and trial.recipe.pretrain.target == "pixel_norm"


def picture_key(trial: Trial) -> str:
    return PICTURES_LENT if lends_statistics(trial) else PICTURES


def metrics_of(study: Study) -> list[str]:
    """Metrics a study is about."""
    if study.measure == "hours":
        return ["pretrain_seconds"]
    return [f"{column}_acc1" for column in study.columns] or ["pretrain_loss"]

"""Saves a view of an experiment: the columns and charts that the MLflow UI opens with.

Without one its table has no level and no result. The format is the UI's own and undocumented: only
the look of a page depends on it, no number. `tests/test_views.py` looks up every word of it in the
UI that is installed. Can go when MLflow's client can save a view.

There is no view of means: the UI averages the 100 runs that it has loaded, seeds included, and does
not say so. Means, with their intervals, are the report's.
"""

import base64
import json
import time
import zlib

from mlflow import MlflowClient

from mae_ablation.registry import list_components, metrics_of
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import steps_per_epoch, training_images
from mae_ablation.tracking.description import picture_key

CHECKED_UI = "3.17.2"
"""Version of MLflow whose UI has shown this view."""

VIEW = "mlflow.sharedViewState.trials"
"""Tag of the view, whose last word stands in links, too."""

WIDTH, LETTER = 20, 7  # pixels of a column, and for each letter of its name

# what is the same for every study; SHOWALL, as charts would show the first ten runs
PAGE = json.loads("""{
  "searchFilter": "tags.kind = 'trial'", "orderByAsc": true, "startTime": "ALL",
  "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
  "runsHiddenMode": "SHOWALL", "viewMaximized": false, "runListHidden": false,
  "isAccordionReordered": true, "useGroupedValuesInCharts": true, "hideEmptyCharts": true,
  "groupBy": null, "groupsExpanded": {}, "globalLineChartConfig":
    {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""}}""")
LINE = json.loads("""{
  "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
  "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
  "ignoreOutliers": false, "useGlobalXaxisKey": true, "useGlobalLineSmoothing": true}""")
SECTION = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
CARD = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
SECTIONS = {"s1": ("Ablation", 2), "s2": ("Curves", 2), "s3": ("Reconstructions", 1)}
"""Title and columns of the page's parts, by their ids."""


def save_view(client: MlflowClient, experiment_id: str, plan: Plan) -> None:
    """Save the view "Trials": level, seed and results in columns; results by level, curves and
    reconstructions (with a slider over the steps) as charts."""
    # params that differ, factors first
    study, recipe = plan.study, plan.study.baseline
    trained = [trial for trial in plan.cells if trial.source == "pretrain"]
    params = [study.tracking_keys[factor.name] for factor in study.factors]
    params += dict.fromkeys(name for trial in trained for name, _ in plan.tuned(trial))

    # what the study measures: its evaluations, or what pre-training itself tells
    results = [metric for column in study.columns for metric in metrics_of(column)]
    results = ["pretrain_seconds"] if study.measure == "hours" else results or ["pretrain_loss"]
    metrics = dict.fromkeys([*results, "pretrain_loss", "pretrain_images_per_s"])
    columns = [f"params.`{name}`" for name in (*params, "seed")]
    columns += [f"metrics.`{name}`" for name in metrics]

    # charts: results by level, curves, pictures of the last step
    with_curves = {each.name for each in list_components("evaluation") if each.cls.has_curve}
    charts = [
        _card("SCATTER", "s1", xaxis=_axis(param, "PARAM"), yaxis=_axis(result, "METRIC"))
        for param in params
        for result in results
    ]
    curves = {"pretrain/loss": "pre-training loss"} | {
        f"{name}/validation_acc1": f"{name}, validation accuracy"
        for name in (result.removesuffix("_acc1") for result in results)
        if name in with_curves
    }
    for key, title in curves.items():
        about = {"displayName": title, "metricKey": key, "selectedMetricKeys": [key]}
        charts.append(_card("LINE", "s2", **about, **LINE))
    pictures = list(dict.fromkeys(map(picture_key, trained)))
    last = recipe.pretrain.epochs * steps_per_epoch(recipe, training_images(recipe, plan.data))
    charts.append(_card("IMAGE", "s3", imageKeys=pictures, step=last, showRunParams=False))

    # the page, sorted by a metric, as the UI sorts params as text
    state = {
        **PAGE,
        "orderByKey": f"metrics.`factor_{params[0]}`",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: WIDTH + LETTER * len(column) for column in columns},
        "compareRunCharts": [{**chart, "uuid": f"c{i}"} for i, chart in enumerate(charts)],
        "compareRunSections": [
            {"uuid": uuid, "name": name, "columns": columns, **SECTION}
            for uuid, (name, columns) in SECTIONS.items()
        ],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": "Trials", "createdAt": now, "updatedAt": now, "state": "deflate;" + packed}
    client.set_experiment_tag(experiment_id, VIEW, json.dumps(view))


def _card(kind: str, section: str, **fields: object) -> dict:
    return {"type": kind, "metricSectionId": section, **CARD, **fields}


def _axis(key: str, kind: str) -> dict:
    return {"key": key, "type": kind}

"""Saved views of an experiment: the columns and charts that the MLflow UI opens with.

Without one its table has no level and no result. The format is the UI's own and undocumented: only
the look of a page depends on it, no number. `tests/test_views.py` looks up every word of it in the
UI that is installed. Can go when MLflow's client can save a view.
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

CHECKED_WITH = "3.17.2"
"""Version of MLflow whose UI has shown these views."""

WIDTH, LETTER = 20, 7  # pixels of a column, and for each letter of its name
MOST_OF_VIEW = 19_000  # characters of a view; a tag has room for 20,000
SECTIONS = {"s1": ("Ablation", 2), "s2": ("Curves", 2), "s3": ("Reconstructions", 1)}
"""Title and columns of a page's parts, by their ids."""

PAGE = json.loads("""{
  "searchFilter": "tags.kind = 'trial'", "orderByAsc": true, "startTime": "ALL",
  "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
  "runsHiddenMode": "SHOWALL", "viewMaximized": false, "runListHidden": false,
  "isAccordionReordered": true, "useGroupedValuesInCharts": true, "hideEmptyCharts": true,
  "groupBy": null, "groupsExpanded": {}, "globalLineChartConfig":
    {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""}}""")
"""State of a page that is the same for all; SHOWALL, as charts would show the first ten runs."""

LINE = json.loads("""{
  "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
  "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
  "ignoreOutliers": false, "useGlobalXaxisKey": true, "useGlobalLineSmoothing": true}""")
"""Settings of a chart of curves."""


def save_views(client: MlflowClient, experiment_id: str, plan: Plan) -> None:
    """Save two views of a study, each a table and charts.

    "1 Trials": level, seed and results in columns; results by level, curves and reconstructions
    (with a slider over the steps) as charts. "2 Ablation (mean over seeds)": a row and a bar for
    each combination of levels, and the curves.
    """
    # params that differ, factors first, and the combinations of their values in the rows' order
    study, keys = plan.study, plan.study.tracking_keys
    trained = [trial for trial in plan.cells if trial.source == "pretrain"]
    varied = [
        {keys[f.name]: plan.level_label(trial, f) for f in study.factors}
        | {name: str(value) for name, value in plan.tuned(trial)}
        for trial in trained
    ]
    params = list(dict.fromkeys(name for each in varied for name in each))
    groups = dict.fromkeys(tuple(each.get(name, "null") for name in params) for each in varied)

    # what the study measures: its evaluations, or what pre-training itself tells
    results = [metric for column in study.columns for metric in metrics_of(column)]
    results = ["pretrain_seconds"] if study.measure == "hours" else results or ["pretrain_loss"]
    measured = list(dict.fromkeys([*results, "pretrain_loss", "pretrain_images_per_s"]))

    # charts
    points = [_scatter(param, metric) for param in params for metric in results]
    bars = [_card("BAR", "s1", metricKey=name, selectedMetricKeys=[name]) for name in results]
    with_curves = {each.name for each in list_components("evaluation") if each.cls.has_curve}
    lines = [_line("pretrain/loss", "pre-training loss")]
    for name in (metric.removesuffix("_acc1") for metric in results):
        if name in with_curves:
            lines.append(_line(f"{name}/validation_acc1", f"{name}, validation accuracy"))
    pictures = list(dict.fromkeys(map(picture_key, trained)))
    recipe = study.baseline
    last = recipe.pretrain.epochs * steps_per_epoch(recipe, training_images(recipe, plan.data))
    images = _card("IMAGE", "s3", imageKeys=pictures, step=last, showRunParams=False)

    # the groups' names tell the levels: as columns the UI would average them, too
    folded = {
        ",".join(f"param.{name}.{level}" for name, level in zip(params, levels, strict=True)): False
        for levels in groups
    }
    by_level = [{"mode": "param", "groupByData": name} for name in params]
    means = {"aggregateFunction": "average", "groupByKeys": by_level}
    trials = _state(params[0], [*params, "seed"], measured, [*points, *lines, images])
    grouped = _state(params[0], [], measured, [*bars, *lines], ("s1", "s2"))
    grouped |= {"groupBy": means, "groupsExpanded": folded}
    for key, title, state in (
        ("trials", "1 Trials", trials),
        ("ablation", "2 Ablation (mean over seeds)", grouped),
    ):
        packed = _pack(state)
        if len(packed) > MOST_OF_VIEW:  # MLflow would refuse it, and all that comes after
            packed = _pack({**state, "groupsExpanded": {}})
        now = int(time.time() * 1000)
        view = {"name": title, "createdAt": now, "updatedAt": now, "state": "deflate;" + packed}
        # a view saved again replaces the one of its key, which stands in links, too
        client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(view))


def _pack(state: dict) -> str:
    return base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def _state(
    factor: str, params: list[str], metrics: list[str], charts: list[dict], sections=tuple(SECTIONS)
) -> dict:
    """Describe a page that is sorted by a factor's level."""
    columns = [f"params.`{name}`" for name in params] + [f"metrics.`{name}`" for name in metrics]
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {
        **PAGE,
        "orderByKey": f"metrics.`factor_{factor}`",  # the UI sorts params as text
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: WIDTH + LETTER * len(column) for column in columns},
        "compareRunCharts": [{**chart, "uuid": f"c{i}"} for i, chart in enumerate(charts)],
        "compareRunSections": [
            {"uuid": uuid, "name": name, "columns": columns, **flags}
            for uuid, (name, columns) in SECTIONS.items()
            if uuid in sections
        ],
    }


def _card(kind: str, section: str, **fields: object) -> dict:
    flags = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return {"type": kind, "metricSectionId": section, **flags, **fields}


def _scatter(param: str, metric: str) -> dict:
    xaxis, yaxis = {"key": param, "type": "PARAM"}, {"key": metric, "type": "METRIC"}
    return _card("SCATTER", "s1", xaxis=xaxis, yaxis=yaxis)


def _line(metric: str, title: str) -> dict:
    about = {"displayName": title, "metricKey": metric, "selectedMetricKeys": [metric]}
    return _card("LINE", "s2", **about, **LINE)

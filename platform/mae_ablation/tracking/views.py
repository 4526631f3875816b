"""Saved views of an experiment: which columns and charts the MLflow UI opens with.

The format is the UI's own and undocumented; it is written as best effort and nothing depends on it.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence

from mlflow import MlflowClient

from mae_ablation.registry import list_components

TRIALS_VIEW, ABLATION, CURVES = "trials", "ablation", "curves"
"""Keys in links; a view saved again replaces the one of its key."""
WIDTH, LETTER = 20, 7  # pixels of a column, and for each letter of its name
MOST_OF_VIEW = 19_000  # characters of a view; a tag has room for 20,000


def save_views(
    client: MlflowClient,
    experiment_id: str,
    factors: Sequence[str],
    groups: Sequence[Sequence[str]],
    results: Sequence[str],
    pictures: Sequence[str],
    last_step: int,
) -> None:
    """Save three views of a study, each a table and charts.

    "1 Trials": level, seed and results in columns; results by level, curves and reconstructions
    (with a slider over the steps) as charts. "2 Ablation (mean over seeds)": a row and a bar for
    each combination of levels. "3 Curves": the curves and reconstructions alone.

    Args:
        factors: params that differ; the first one is a factor, the last ones may be tuned.
        groups: combinations of their values, in their order; they are folded in "2 Ablation".
        results: metrics the study is about, such as "finetune_acc1".
        pictures: keys of the reconstructions, which the views open with at `last_step`.
    """
    ablation, curves, images = (
        _section("s1", "Ablation"),
        _section("s2", "Curves"),
        _section("s3", "Reconstructions", columns=1),
    )
    points = [
        _scatter(f"c{i}-{j}", "s1", factor, name)
        for i, factor in enumerate(factors)
        for j, name in enumerate(results)
    ]
    bars = [_bar(f"b{i}", "s1", name) for i, name in enumerate(results)]
    trained = [name.removesuffix("_acc1") for name in results]
    with_curves = [each.name for each in list_components("evaluation") if each.cls.has_curve]
    lines = [
        _line("l0", "s2", "pretrain/loss", "pre-training loss"),
        *(
            _line(f"l{i + 1}", "s2", f"{name}/validation_acc1", f"{name}, validation accuracy")
            for i, name in enumerate(trained)
            if name in with_curves
        ),
    ]
    shown = [
        _card("i1", "IMAGE", "s3", imageKeys=list(pictures), step=last_step, showRunParams=False)
    ]
    measured = list(dict.fromkeys([*results, "pretrain_loss", "pretrain_images_per_s"]))
    trials = _state(factors[0], [*factors, "seed"], measured)
    means = {"aggregateFunction": "average"}
    means["groupByKeys"] = [{"mode": "param", "groupByData": factor} for factor in factors]
    # no column of the levels, which the UI would average, too: they are the groups' names
    folded = {_group(factors, levels): False for levels in groups}
    grouped = _state(factors[0], [], measured) | {"groupBy": means, "groupsExpanded": folded}
    for key, name, state, sections, charts in (
        (TRIALS_VIEW, "1 Trials", trials, [ablation, curves, images], [*points, *lines, *shown]),
        (ABLATION, "2 Ablation (mean over seeds)", grouped, [ablation, curves], [*bars, *lines]),
        (CURVES, "3 Curves", trials, [curves, images], [*lines, *shown]),
    ):
        view = {**state, "compareRunCharts": charts, "compareRunSections": sections}
        _save(client, experiment_id, key, name, view)


def _group(factors: Sequence[str], levels: Sequence[str]) -> str:
    """Return the UI's name of a group of runs."""
    return ",".join(f"param.{f}.{level}" for f, level in zip(factors, levels, strict=True))


def _state(factor: str, params: Sequence[str], metrics: Sequence[str]) -> dict:
    columns = [f"params.`{name}`" for name in params]
    columns += [f"metrics.`{name}`" for name in metrics]
    return {
        "searchFilter": "tags.kind = 'trial'",
        "orderByKey": f"metrics.`factor_{factor}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: WIDTH + LETTER * len(column) for column in columns},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _save(client: MlflowClient, experiment_id: str, key: str, name: str, state: dict) -> None:
    now = int(time.time() * 1000)
    packed = _packed(state)
    if len(packed) > MOST_OF_VIEW:  # MLflow would refuse it, and all that comes after
        packed = _packed({**state, "groupsExpanded": {}})
    value = {"name": name, "createdAt": now, "updatedAt": now, "state": "deflate;" + packed}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(value))


def _packed(state: dict) -> str:
    return base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def _section(uuid: str, name: str, columns: int = 2) -> dict:
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, "columns": columns, **flags}


def _card(uuid: str, kind: str, section: str, **fields: object) -> dict:
    flags = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "type": kind, "metricSectionId": section, **flags, **fields}


def _scatter(uuid: str, section: str, param: str, metric: str) -> dict:
    xaxis, yaxis = {"key": param, "type": "PARAM"}, {"key": metric, "type": "METRIC"}
    return _card(uuid, "SCATTER", section, xaxis=xaxis, yaxis=yaxis)


def _bar(uuid: str, section: str, metric: str) -> dict:
    return _card(uuid, "BAR", section, metricKey=metric, selectedMetricKeys=[metric])


def _line(uuid: str, section: str, metric: str, title: str) -> dict:
    return _card(
        uuid,
        "LINE",
        section,
        displayName=title,
        metricKey=metric,
        selectedMetricKeys=[metric],
        lineSmoothness=0,
        xAxisScaleType="linear",
        scaleType="linear",
        range={},
        xAxisKey="step",
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )

"""Saved views of an experiment: which columns and charts the MLflow UI opens with.

The format is the UI's own and undocumented; it is written as best effort and nothing depends on it.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence

from mlflow import MlflowClient

TRIALS = "trials"


def save_trials_view(
    client: MlflowClient,
    experiment_id: str,
    factor: str,
    results: Sequence[str],
    pictures: Sequence[str],
    last_step: int,
) -> None:
    """View "1 Trials": level, seed and results in columns; the ablation, curves and
    reconstructions (with a slider over the steps) as charts.

    Args:
        results: metrics the study is about, such as "finetune_acc1".
        pictures: keys of the reconstructions, which the view opens with at `last_step`.
    """
    sections = [
        _section("s1", "Ablation"),
        _section("s2", "Curves"),
        _section("s3", "Reconstructions"),
    ]
    trained = [name.removesuffix("_acc1") for name in results]
    charts = [
        *(_scatter(f"c{i}", "s1", factor, name) for i, name in enumerate(results)),
        _line("l0", "s2", "pretrain/loss", "pre-training loss"),
        *(
            _line(f"l{i + 1}", "s2", f"{name}/validation_acc1", f"{name}, validation accuracy")
            for i, name in enumerate(trained)
            if name in ("linear_probe", "finetune")
        ),
        _card("i1", "IMAGE", "s3", imageKeys=list(pictures), step=last_step, showRunParams=False),
    ]
    metrics = list(dict.fromkeys([*results, "pretrain_loss", "pretrain_images_per_s"]))
    state = {
        "searchFilter": "tags.kind = 'trial'",
        "orderByKey": f"metrics.`factor_{factor}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"params.`{factor}`", "params.`seed`"]
        + [f"metrics.`{name}`" for name in metrics],
        "columnOrder": [],
        "columnWidths": {},
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
        "compareRunCharts": charts,
        "compareRunSections": sections,
    }
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    value = {"name": "1 Trials", "createdAt": now, "updatedAt": now, "state": "deflate;" + packed}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{TRIALS}", json.dumps(value))


def _section(uuid: str, name: str) -> dict:
    flags = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, **flags}


def _card(uuid: str, kind: str, section: str, **fields: object) -> dict:
    flags = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "type": kind, "metricSectionId": section, **flags, **fields}


def _scatter(uuid: str, section: str, param: str, metric: str) -> dict:
    xaxis, yaxis = {"key": param, "type": "PARAM"}, {"key": metric, "type": "METRIC"}
    return _card(uuid, "SCATTER", section, xaxis=xaxis, yaxis=yaxis)


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

"""A tracking server in memory, with what the tracker uses of MlflowClient. It can be away."""

import time
from pathlib import Path
from types import SimpleNamespace

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST


class Page(list):
    token = None


class FakeMlflow:
    def __init__(self):
        self.away = False
        self.refused = set()  # values of the param "seed" it does not take
        self.calls = []
        self.runs = {}
        self.experiment_tags = {}
        self.files = {}  # by run and path
        self.before_create = None  # called once, before the next run is made

    def _called(self, name):
        self.calls.append(name)
        if self.away:
            raise MlflowException("API request to http://127.0.0.1:1 failed: nobody answers")

    def get_experiment_by_name(self, name):
        self._called("get_experiment_by_name")
        tags = dict(self.experiment_tags)
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active", tags=tags)

    def set_experiment_tag(self, experiment_id, key, value):
        self._called("set_experiment_tag")
        self.experiment_tags[key] = value

    def create_run(self, experiment_id, run_name, tags):
        self._called("create_run")
        hook, self.before_create = self.before_create, None
        if hook:
            hook()
        run_id = f"run{len(self.runs)}"
        info = SimpleNamespace(run_id=run_id, run_name=run_name, status="RUNNING", end_time=None)
        info.start_time = int(time.time() * 1000)
        data = SimpleNamespace(tags=dict(tags), params={}, metrics={})
        run = SimpleNamespace(info=info, data=data, points=set(), deleted=False)
        self.runs[run_id] = run
        return run

    def delete_run(self, run_id):
        self._called("delete_run")
        self.runs[run_id].deleted = True

    def search_runs(self, ids, query, max_results, order_by, page_token=None):
        self._called("search_runs")
        found = [run for run in self.runs.values() if not run.deleted]
        if query:
            key, value = query.removeprefix("tags.").split(" = ")
            found = [run for run in found if run.data.tags.get(key) == value.strip("'")]
        if order_by[0].endswith("DESC"):
            found.reverse()
        begin = int(page_token or 0)
        page = Page(found[begin : begin + max_results])
        page.token = str(begin + max_results) if begin + max_results < len(found) else None
        return page

    def get_run(self, run_id):
        self._called("get_run")
        return self.runs[run_id]

    def get_metric_history(self, run_id, name):
        self._called("get_metric_history")
        points = [p for p in self.runs[run_id].points if p[0] == name]
        return [SimpleNamespace(step=step) for _, _, step, _ in points]

    def log_batch(self, run_id, metrics, params, tags):
        self._called("log_batch")
        run = self.runs[run_id]
        if any(p.key == "seed" and p.value in self.refused for p in params):
            raise MlflowException("this value was another", INVALID_PARAMETER_VALUE)
        run.data.params |= {p.key: p.value for p in params}
        run.data.tags |= {t.key: t.value for t in tags}
        for m in metrics:
            run.points.add((m.key, m.timestamp, m.step, m.value))
            run.data.metrics[m.key] = m.value

    def log_text(self, run_id, text, name):
        self._called("log_text")
        self.files[run_id, name] = text

    def log_artifact(self, run_id, path, folder):
        self._called("log_artifact")
        self.files[run_id, f"{folder}/{Path(path).name}"] = Path(path).read_bytes()

    def list_artifacts(self, run_id, path):
        self._called("list_artifacts")
        return []

    def set_tag(self, run_id, key, value):
        self._called("set_tag")
        self.runs[run_id].data.tags[key] = value

    def delete_tag(self, run_id, key):
        self._called("delete_tag")
        if key not in self.runs[run_id].data.tags:
            raise MlflowException("no such tag", RESOURCE_DOES_NOT_EXIST)
        del self.runs[run_id].data.tags[key]

    def update_run(self, run_id, status):
        self._called("update_run")
        self.runs[run_id].info.status = status

    def set_terminated(self, run_id, status, end_time=None):
        self._called("set_terminated")
        self.runs[run_id].info.status = status
        self.runs[run_id].info.end_time = end_time

    def active(self):
        """Runs of trials that are there, by name."""
        found = [run for run in self.runs.values() if not run.deleted]
        found = [run for run in found if run.data.tags["kind"] != "report"]
        assert len({run.info.run_name for run in found}) == len(found), "a trial has two runs"
        return {run.info.run_name: run for run in found}

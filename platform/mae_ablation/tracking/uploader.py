"""Tails the journals of one trial into its run, every point once."""

import io
import math
import re
from collections.abc import Iterable, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from mae_ablation.store.folder import Journal, PhaseFolder

POINTS_PER_CALL = 1000  # points per call, MLflow's limit


class Uploader:
    """Sends what a run does not have yet.

    MLflow keeps a second value for the same step if its time differs, for ever; so nothing at or
    below the highest step it has of a metric is sent again, whatever was killed in between.
    """

    def __init__(self, client: MlflowClient, run_id: str, *, empty: bool) -> None:
        """`empty`: the run has just been made."""
        self._client, self._run_id = client, run_id
        # the highest step of each curve; metrics without a phase's prefix are single numbers
        names = [] if empty else client.get_run(run_id).data.metrics
        self._last = {
            name: max(point.step for point in client.get_metric_history(run_id, name))
            for name in names
            if "/" in name
        }
        self._pictures: set[int] | None = set() if empty else None  # steps of those the run has

    def send(
        self,
        journals: Iterable[Journal],
        facts: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Send the new points of journals, and what else there is, in as few calls as possible.

        Raises what MLflow raises; then nothing is lost.
        """
        # not-a-number would be kept as such, infinity as 1.8e308
        points = list(facts)
        points += [
            Metric(name, value, row["t"], row["s"])
            for journal in journals
            for row in journal.read()
            for name, value in row["m"].items()
            if math.isfinite(value) and row["s"] > self._last.get(name, -1)
        ]
        if not (points or params or tags):
            return

        # a batch that arrived is not sent again, even if the next one fails
        for start in range(0, max(1, len(points)), POINTS_PER_CALL):
            batch = points[start : start + POINTS_PER_CALL]
            self._client.log_batch(self._run_id, batch, params, tags)
            self._last.update((point.key, point.step) for point in batch if "/" in point.key)
            params, tags = (), ()

    def send_pictures(self, folder: PhaseFolder, key: str) -> None:
        """Send the pictures the run does not have, each at its step."""
        from PIL import Image

        # MLflow's names of those it has hold the step, such as "reconstruction+step+40+..."
        steps = folder.pictures()
        if steps and self._pictures is None:
            names = (file.path for file in self._client.list_artifacts(self._run_id, "images"))
            found = (re.search(r"step.(\d+)", name) for name in names)
            self._pictures = {int(match[1]) for match in found if match}
        for step in steps:
            if step not in self._pictures:
                with Image.open(io.BytesIO(folder.picture(step))) as picture:
                    self._client.log_image(self._run_id, picture, key=key, step=step)
                self._pictures.add(step)

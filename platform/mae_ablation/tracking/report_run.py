"""The run REPORT: a study's report in MLflow, above its trials, and the experiment's note."""

from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from mae_ablation.tracking.address import MODEL_TRAINING

REPORT_FOLDER = "report"  # of the run's artifacts
REPORT_PAGE = "index.html"
NOTE = "mlflow.note.content"
"""Tag: text the UI shows above an experiment's runs, folded to its first line, and beside a run."""
NOTE_LIMIT = 20_000
"""Characters; MLflow refuses a longer one of an experiment."""
CUT = "\n\nCut here; the rest is in the run REPORT."


def show_report(
    client: MlflowClient, experiment_id: str, study: str, files: Sequence[Path], note: str
) -> None:
    """Log the files, and have both notes say `note`, whose first line is the headline."""
    run, old = find_report_run(client, experiment_id, study)
    run_id = run.info.run_id
    for file in files:
        inside = file.parent.relative_to(files[0].parent)
        client.log_artifact(run_id, str(file), (Path(REPORT_FOLDER) / inside).as_posix())
        if file.suffix == ".tex":  # which the UI does not show
            client.log_text(
                run_id, file.read_text(encoding="utf-8"), f"{REPORT_FOLDER}/{file.stem}.txt"
            )
    headline, _, rest = note.partition("\n")
    if any(file.name == REPORT_PAGE for file in files):
        base = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{REPORT_FOLDER}"
        headline += f"\n\n[The whole report]({base}/{REPORT_PAGE}?{MODEL_TRAINING})"
    client.set_tag(run_id, NOTE, headline)
    client.set_experiment_tag(experiment_id, NOTE, cut_note(f"{headline}\n{rest}"))
    if run.info.status != "FINISHED":  # the same run again would have lasted for hours
        client.set_terminated(run_id, "FINISHED")
    for other in old:
        client.delete_run(other.info.run_id)


def find_report_run(client: MlflowClient, experiment_id: str, study: str) -> tuple[Run, list[Run]]:
    """Find the run, and those that are to go.

    It is a new one if a trial's run is newer than the last: the table shows the newest run first,
    and a run's start cannot be changed.
    """
    newest = _newest(client, experiment_id, "")
    reports = _newest(client, experiment_id, "tags.kind = 'report'")
    if reports and newest[0].info.run_id == reports[0].info.run_id:
        return reports[0], reports[1:]
    tags = {"kind": "report", "study": study}
    return client.create_run(experiment_id, run_name="REPORT", tags=tags), reports


def _newest(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """Return a few runs, the newest first."""
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment_id], query, max_results=10, order_by=order))


def cut_note(text: str) -> str:
    """Cut a long note behind a whole line of its table."""
    if len(text) <= NOTE_LIMIT:
        return text
    return text[: NOTE_LIMIT - len(CUT)].rpartition("\n")[0] + CUT

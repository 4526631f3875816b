"""Shows a study's report in MLflow: as files of a run REPORT, and as the experiment's note."""

from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient

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
    # the run, whose files are replaced by those of the same names
    found = client.search_runs(
        [experiment_id],
        "tags.kind = 'report'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    tags = {"kind": "report", "study": study}
    run = found[0] if found else client.create_run(experiment_id, run_name="REPORT", tags=tags)
    run_id = run.info.run_id
    for file in files:
        inside = file.parent.relative_to(files[0].parent)
        client.log_artifact(run_id, str(file), (Path(REPORT_FOLDER) / inside).as_posix())

    # notes
    headline, _, rest = note.partition("\n")
    if any(file.name == REPORT_PAGE for file in files):
        base = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{REPORT_FOLDER}"
        headline += f"\n\n[The whole report]({base}/{REPORT_PAGE}?{MODEL_TRAINING})"
    client.set_tag(run_id, NOTE, headline)
    client.set_experiment_tag(experiment_id, NOTE, cut_note(f"{headline}\n{rest}"))
    if run.info.status != "FINISHED":  # the same run again would have lasted for hours
        client.set_terminated(run_id, "FINISHED")


def cut_note(text: str) -> str:
    """Cut a long note behind a whole line of its table."""
    if len(text) <= NOTE_LIMIT:
        return text
    return text[: NOTE_LIMIT - len(CUT)].rpartition("\n")[0] + CUT

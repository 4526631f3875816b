"""The notebook in reports/ runs from top to bottom, on a report of the study that it names."""

import shutil

import pytest
from conftest import ROOT, write_place
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.report.report import write_report

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75, 0.9]\nseeds: 3\n"
ACCURACY = {
    "0.5": [80.0, 81.0, 80.4],
    "0.75": [81.0, 81.5, 81.3],
    "0.9": [79.0, 79.2, 79.9],
    "random encoder": [60.0, 60.5, 60.2],
    "raw pixels": [65.0, 65.1, 65.2],
}


@pytest.mark.slow
def test_the_notebook_runs_and_draws(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    client = pytest.importorskip("nbclient", reason="needs nbformat, nbclient and ipykernel")

    # a place with the study's report, and the notebook beside it
    path = write_place(tmp_path, STUDY, name="mask_ratio")
    plan = plan_study(path, store=tmp_path / "store")
    give_accuracies(plan, ACCURACY)
    write_report(plan, tmp_path / "reports" / "mask_ratio")
    shutil.copy(ROOT / "reports" / "results.ipynb", tmp_path / "reports")

    notebook = nbformat.read(tmp_path / "reports" / "results.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    where = {"metadata": {"path": str(tmp_path / "reports")}}
    client.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    kinds = {kind for out in outputs for kind in out.get("data", ())}
    assert "image/png" in kinds and "text/html" in kinds

"""The notebook in reports/ runs from top to bottom, on the committed results."""

import pytest
from conftest import ROOT


def test_the_notebook_runs_and_draws(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    client = pytest.importorskip("nbclient", reason="needs nbformat, nbclient and ipykernel")
    notebook = nbformat.read(ROOT / "reports" / "results.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    where = {"metadata": {"path": str(ROOT / "reports")}}
    client.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    kinds = {kind for out in outputs for kind in out.get("data", ())}
    assert "image/png" in kinds and "text/html" in kinds

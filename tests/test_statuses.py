"""Exit statuses, as README has them: 0 all done, 1 a trial has no result, 2 an error in what was
asked, 130 interrupted. Every command, in one place."""

import importlib
import shutil

import pytest
from conftest import ROOT, write_place
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.report.report import write_report

pytestmark = pytest.mark.usefixtures("without_figures")
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nseeds: 2\n"
LEVELS = ("0.25", "0.5", "0.75", "random encoder", "raw pixels")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a finished study x, half of y, and their reports."""
    made = tmp_path_factory.mktemp("statuses")
    for name, study, seeds in (("x", STUDY, 2), ("y", STUDY.replace("0.5,", "0.25,"), 1)):
        plan = plan_study(write_place(made, study, name=name), store=made / "store")
        give_accuracies(plan, {label: [70.0, 71.0][:seeds] for label in LEVELS})
        write_report(plan, made / "reports" / name)
    shutil.copy(ROOT / "cluster.yaml", made / "mine.yaml")
    return made


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of that folder, and the command's working directory."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


ASKED = [
    ("plan studies/x.yaml", 0),
    ("plan studies/z.yaml", 2),
    ("run studies/x.yaml --plan", 0),
    ("run studies/z.yaml", 2),
    ("report studies/x.yaml", 0),
    ("report studies/y.yaml", 1),
    ("report studies/x.yaml studies/y.yaml", 1),
    ("report studies/x.yaml --store none", 1),
    ("report studies/z.yaml", 2),
    ("report studies/x.yaml --from mlflow", 2),
    ("compare x y", 0),
    ("compare x z", 2),
    ("data nowhere", 2),
    ("doctor", 0),
    ("doctor --store mine.yaml", 1),
    ("store ls", 0),
    ("store ls --store none", 2),
    ("store show nothing", 2),
    ("store verify", 0),
    ("store gc", 0),
    ("store export results.zip studies/x.yaml", 0),
    ("store export results.zip studies/y.yaml", 1),
    ("store export results.zip studies/x.yaml --seeds 9", 1),
    ("store export results.zip studies/x.yaml --set pretrain.epochs=9", 1),
    ("store export results.zip studies/z.yaml", 2),
    ("store import none.zip", 2),
    ("reconstruct --checkpoint nothing --image cat.jpg", 2),
    ("export --checkpoint nothing --out vit.pth", 2),
    ("masks --out masks.png", 0),
    ("masks --seed x", 2),
    ("cluster template local", 0),
    ("cluster template locl", 2),
    ("cluster check mine.yaml", 2),
    ("cluster check none.yaml", 2),
    ("ui", 2),
]


@pytest.mark.parametrize(("words", "status"), ASKED, ids=[words for words, _ in ASKED])
def test_each_command_ends_with_its_status(place, words, status, capsys):
    assert main(words.split()) == status, capsys.readouterr()


def test_a_damaged_result_is_one_that_is_not_there(place, capsys):
    next((place / "store").rglob("result.json")).write_bytes(b"{")
    assert main(["store", "verify"]) == 1
    assert main(["report", "studies/x.yaml", "studies/y.yaml"]) == 1


def test_an_export_that_lacks_results_says_what_runs_them(place, capsys):
    assert main(["store", "export", "y.zip", "studies/y.yaml"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("y.zip: 10 of 12 phases are finished and exported, ")
    assert said.err == (
        "y: 10 of 12 phases; the rest comes with: mae-ablation run studies/y.yaml --recipe "
        "toy --seeds 2\n"
    )
    for result in (place / "store").rglob("result.json"):
        result.unlink()
    assert main(["store", "export", "none.zip", "studies/y.yaml"]) == 1
    assert not (place / "none.zip").exists()


def test_a_good_export_is_not_replaced_by_one_of_less(place, capsys):
    assert main(["store", "export", "results.zip", "studies/x.yaml"]) == 0
    good = (place / "results.zip").read_bytes()
    for result in list((place / "store").rglob("result.json"))[1:]:
        result.unlink()
    assert main(["store", "export", "results.zip", "studies/x.yaml"]) == 1
    assert "results.zip: kept: it holds 12 phases, and only 1 of 12 are" in capsys.readouterr().err
    assert (place / "results.zip").read_bytes() == good


@pytest.mark.parametrize(("left", "status"), [(0, 0), (2, 1)])
def test_a_run_s_status_is_whether_a_trial_has_no_result(place, monkeypatch, left, status):
    monkeypatch.setattr("mae_ablation.launch.here.run_here", lambda *asked: left)
    assert main(["run", "studies/x.yaml", "--local"]) == status


INTERRUPTED = {
    "run studies/x.yaml --local": "mae_ablation.launch.here.run_here",
    "store verify": "mae_ablation.study.upkeep.verify",
}


@pytest.mark.parametrize("words", INTERRUPTED)
def test_each_command_can_be_interrupted(place, words, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    importlib.import_module(INTERRUPTED[words].rpartition(".")[0])
    monkeypatch.setattr(INTERRUPTED[words], stop)
    assert main(words.split()) == 130

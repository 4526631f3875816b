"""`python -m platform store`: list, show, verify and mend, collect what no study needs."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import TOY_RECIPE, write_place
from toys import claim_in_another_process, damage

from mae_ablation import cli
from mae_ablation.api import plan_study
from mae_ablation.store.folder import Store
from mae_ablation.train.trial import run_trial

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A clone with a finished study in its store, to be copied."""
    place = tmp_path_factory.mktemp("clone")
    write_place(place, STUDY)
    plan = plan_study(place / "studies" / "x.yaml", store=place / "store")
    assert [run_trial(trial, place / "store") for trial in plan.trials] == [None] * 4
    return place


@pytest.fixture
def place(ran, tmp_path, monkeypatch):
    """A copy of its own, as a colleague's."""
    shutil.copytree(ran, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def store(capsys, *words):
    status = cli.main(["store", *words])
    said = capsys.readouterr()
    return status, said.out + said.err


def pretrainings(place):
    return Store(place / "store").folders("pretrain")


def test_a_copied_store_verifies_and_needs_nothing_run_again(place, capsys):
    assert store(capsys, "verify") == (0, "6 phases checked, 0 with faults\n")
    assert plan_study(place / "studies" / "x.yaml", store="store").missing() == []


def test_ls_and_show(place, capsys):
    _, said = store(capsys, "ls")
    assert said.count("finished") == 6 and said.count("\n") == 6
    folder = pretrainings(place)[0]
    status, said = store(capsys, "show", folder.identity[:6])
    assert status == 0 and said.startswith(f"{folder.name}: finished\njournal: 2 points")
    assert '"kept_patches"' in said
    status, said = store(capsys, "show", "zz")
    assert status == 2
    assert said == "store: no phase 'zz' among 6: `mae-ablation store ls` lists them\n"


def test_a_damaged_last_checkpoint_is_found_and_its_phase_finished_again(place, capsys):
    folder = pretrainings(place)[0]
    before = folder.result()["train_loss"], folder.final_checkpoint()
    damage(folder, folder.checkpoints()[0])
    status, said = store(capsys, "verify")
    assert status == 1 and f"{folder.checkpoints()[0].file} is damaged" in said
    status, said = store(capsys, "verify", "--mend")
    assert status == 0 and "mended, the next run of its study finishes it again" in said
    plan = plan_study(place / "studies" / "x.yaml", store=place / "store")
    (todo,) = plan.missing()
    assert run_trial(todo, place / "store") is None
    assert folder.result()["train_loss"] == before[0]
    assert store(capsys, "verify")[0] == 0


def test_what_was_changed_by_hand_is_found(place, capsys):
    folder = pretrainings(place)[0]
    document = place / "store" / folder.name / "phase.json"
    document.write_text(document.read_text().replace('"seed": 0', '"seed": 1'))
    other = place / "store" / pretrainings(place)[1].name / "journal.jsonl"
    other.write_text("no json\n")
    status, said = store(capsys, "verify")
    assert status == 1 and "6 phases checked, 2 with faults" in said
    assert "not the folder's" in said and "journal.jsonl has 1 damaged lines" in said


def test_results_without_weights_are_no_fault_and_trained_again_only_when_named(place, capsys):
    """As they come home from a cluster."""
    for folder in pretrainings(place):
        for checkpoint in folder.checkpoints():
            folder.files.remove(checkpoint.name)
    status, said = store(capsys, "verify", "--mend")
    assert status == 0 and said == (
        "6 phases checked, 0 with faults\n"
        "2 have results without weights: these stayed where they were trained\n"
    )
    folder = pretrainings(place)[0]
    status, said = store(capsys, "verify", "--mend", folder.identity)
    assert status == 0 and f"{folder.name}: mended" in said
    assert [f.result() is None for f in pretrainings(place)] == [True, False]


def test_a_damaged_result_is_a_failure_in_the_table_and_mended(place, capsys):
    folder = pretrainings(place)[0]
    (place / "store" / folder.name / "result.json").write_text('{"train_lo')
    assert cli.main(["report", "studies/x.yaml"]) == 1
    assert (
        "with: mae-ablation store verify --mend, then: mae-ablation run" in capsys.readouterr().err
    )
    assert "1 failed" in (place / "reports" / "x" / "table.md").read_text()
    assert "result.json is damaged" in (place / "reports" / "x" / "trials.csv").read_text()
    status, said = store(capsys, "verify")
    assert status == 1 and f"{folder.name}: result.json is damaged" in said
    assert store(capsys, "verify", "--mend")[0] == 0
    assert folder.result() is None and folder.checkpoints()


def test_gc_deletes_only_what_no_study_needs_and_only_when_told(place, capsys):
    study = place / "studies" / "x.yaml"
    assert store(capsys, "gc")[1] == "0 things of 0.0 MB could go: --yes deletes them\n"
    study.write_text(STUDY.replace("[0.5, 0.75]", "[0.75, 0.9]"))
    half = place / "store" / pretrainings(place)[1].name / ".result.json.12.part"
    half.write_text("half")
    _, said = store(capsys, "gc")
    assert said.count("no study needs it") == 2 and said.count("half written") == 1
    assert "3 things of" in said and len(pretrainings(place)) == 2
    _, said = store(capsys, "gc", "--yes")
    assert "deleted" in said and len(pretrainings(place)) == 1 and not half.exists()
    assert plan_study(study, store="store").trials[0].label.startswith("mask_ratio")


def test_gc_leaves_what_another_process_is_at_work_on(place, capsys):
    (place / "studies" / "x.yaml").write_text(STUDY.replace("0.5, ", ""))
    folder = Store(place / "store").phase("pretrain", "x", "0123456789ab")
    folder.begin({"seed": 0})
    other, _ = claim_in_another_process(place)
    try:
        said = store(capsys, "gc")[1]
        assert folder.identity not in said
        assert "1 phases left alone: other runs are at work on them\n" in said
    finally:
        other.kill()
        other.wait()
    assert folder.identity in store(capsys, "gc")[1]


def test_gc_says_what_it_cannot_judge(place, capsys):
    """Without a set's files the identities on it are not known, so none is called unneeded."""
    far = TOY_RECIPE.replace("data: {", "data: {name: stl10, ")
    (place / "studies" / "recipes" / "far.yaml").write_text(far)
    (place / "studies" / "far.yaml").write_text(STUDY.replace("recipe: toy", "recipe: far"))
    Store(place / "store").phase("knn", "x", "0" * 12).begin({"data": {"name": "stl10"}})
    said = store(capsys, "gc")[1]
    assert "1 phases on stl10 left alone: its images are not on this machine" in said
    assert "0 things of" in said


def test_a_place_without_a_store_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert store(capsys, "ls") == (2, "store: there is no store\n")
    status, said = store(capsys, "verify", "--store", "foo://x")
    assert status == 2 and said.startswith("foo://x: cannot read the store: foo:// is no known")


def test_gc_without_studies_is_refused(place, capsys):
    shutil.rmtree(place / "studies")
    status, said = store(capsys, "gc", "--yes")
    assert status == 2 and said == "gc: no study files: without them everything would go\n"


AS_ANOTHER = """
import os, sys
from pathlib import Path
from mae_ablation.api import plan_study
from mae_ablation.study.upkeep import verify

def check():
    plan = plan_study(Path("studies/x.yaml"), store="store")
    return verify(store="store"), plan.missing(), plan.trials[0].phases[0].folder(plan.store)

check()[2].claim("root").release()  # first as root: the interpreter may be closed to others
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
(lines, left), missing, folder = check()
folder.save_checkpoint(10**6, b"weights")
print(lines, left, missing, "claimed" if folder.claim("me") else "refused")
"""


def test_a_store_of_another_user_is_checked_and_used(place):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copytree(place, Path(folder) / "copy")
        for path in (copy, *copy.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, str(nobody.pw_uid), str(nobody.pw_gid)],
            cwd=copy,
            capture_output=True,
            text=True,
        )
    assert done.stdout == "['6 phases checked, 0 with faults'] 0 [] claimed\n", done.stderr

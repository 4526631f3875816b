"""The store: checksums, damaged files, claims between processes, a place that fails."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT
from toys import claim_in_another_process, damage

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.files import files_at
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.places import find_phase

ID = "0123456789ab"


def a_phase(place) -> PhaseFolder:
    folder = Store(place / "store").phase("pretrain", "x", ID)
    folder.begin({"seed": 0})
    return folder


def test_the_last_two_checkpoints_are_kept_by_step(tmp_path):
    folder = a_phase(tmp_path)
    for step in (8, 99, 100):
        folder.save_checkpoint(step, b"weights %d" % step)
    assert [(c.step, c.read()) for c in folder.checkpoints()] == [
        (100, b"weights 100"),
        (99, b"weights 99"),
    ]


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path):
    folder = a_phase(tmp_path)
    folder.save_checkpoint(1, b"older")
    folder.save_checkpoint(2, b"newer")
    damage(folder, folder.checkpoints()[0])
    with pytest.warns(UserWarning, match="00000002-.* is damaged.*an older one is used"):
        checkpoint, data = folder.sound_checkpoint()
    assert (checkpoint.step, data) == (1, b"older")


def test_a_finished_phase_whose_last_checkpoint_is_damaged_lends_no_other(tmp_path):
    folder = a_phase(tmp_path)
    folder.save_checkpoint(1, b"older")
    folder.save_checkpoint(2, b"newer")
    damage(folder, folder.checkpoints()[0])
    with pytest.raises(Damaged, match="store verify --mend"):
        folder.final_checkpoint()


def test_a_half_written_file_is_never_read_and_goes_with_the_next_attempt(tmp_path):
    folder = a_phase(tmp_path)
    part = folder.files.path / folder.name / ".result.json.0011.part"
    part.write_text('{"test_ac')
    assert folder.result() is None
    folder.begin({"seed": 0})
    assert not part.exists()


def test_a_phase_is_worked_on_by_one_process_and_free_when_that_is_killed(tmp_path):
    folder = a_phase(tmp_path)
    other, said = claim_in_another_process(tmp_path)
    assert said == "held"
    assert folder.claim("me") is None
    other.kill()
    other.wait()
    mine = folder.claim("me")
    assert mine is not None
    second, said = claim_in_another_process(tmp_path)
    assert said == "refused"
    second.kill()
    mine.release()
    assert folder.claim("me") is not None


def test_a_folder_renamed_by_a_newer_version_is_found_by_its_identity(tmp_path):
    a_phase(tmp_path).finish({"test_acc1": 50.0})
    store = Store(tmp_path / "store")
    assert store.phase("pretrain", "another-name", ID).result() == {"test_acc1": 50.0}
    other = store.phase("pretrain", "y", "ba9876543210")
    assert not other.exists() and other.result() is None
    other.finish({"test_acc1": 60.0})
    assert find_phase(store, "ba98", "pretrain").result() == {"test_acc1": 60.0}


def test_the_folder_of_a_relative_store_does_not_move_with_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = a_phase(tmp_path)
    assert Store("store").phase("pretrain", "x", ID).document() == {"seed": 0}
    monkeypatch.chdir("/")
    assert folder.document() == {"seed": 0}
    assert not Store("store").phase("pretrain", "x", ID).exists()


def test_unknown_places_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere:// is no known file system"):
        files_at("nowhere://x")
    done = subprocess.run(
        [sys.executable, "-m", "mae_ablation", "run", "studies/mask_ratio.yaml"]
        + ["--store", "nowhere://x", "--reports", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "nowhere://x: " in done.stderr


def test_what_is_written_is_plain_json(tmp_path):
    folder = a_phase(tmp_path)
    folder.fail("pretrain: Diverged: loss is nan", "traceback")
    text = (tmp_path / "store" / folder.name / "failure.json").read_text()
    assert json.loads(text)["reason"] == "pretrain: Diverged: loss is nan"

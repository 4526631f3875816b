"""A store on S3 (a server on loopback stands in for it) and on what fsspec knows."""

import threading
import time

import pytest
from conftest import TOY_RECIPE

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.store import claim
from mae_ablation.store.files import files_at
from mae_ablation.store.folder import Store
from mae_ablation.train.trial import run_trial

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
ID = "0123456789ab"


class Slow:
    """One file of an object store far away: what is read is old by the time one writes."""

    root = "slow"

    def __init__(self):
        self.reading, self._data = threading.Event(), None

    def read_now(self, name):
        data = self._data
        self.reading.set()
        time.sleep(0.02)
        return data

    def write_now(self, name, data):
        self._data = data

    def refresh(self):
        pass

    def remove(self, name):
        self._data = None


@pytest.fixture
def quick(monkeypatch):
    """Claims that settle and die at once."""
    monkeypatch.setattr(claim, "SETTLE_S", 0.01)
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    monkeypatch.setattr(claim, "DEAD_S", 0.3)


def afresh(uri):
    """Files as another process sees them."""
    from mae_ablation.store.remote import RemoteFiles

    return RemoteFiles(uri)


ODD = ["exp #1 what? 100%", "a%20b ä", "x=1&y'\";$()[]{}"]


@pytest.mark.parametrize("name", ODD)
def test_a_prefix_is_meant_as_it_is_written(s3, name):
    import boto3

    files = afresh(f"{s3}/odd/{name}/store")
    files.write("a/x.json", b"1")
    assert files.names("a") == ["x.json"] and afresh(files.root).read("a/x.json") == b"1"
    listed = boto3.client("s3").list_objects_v2(Bucket="mae", Prefix="results/odd/")["Contents"]
    assert f"results/odd/{name}/store/a/x.json" in [each["Key"] for each in listed]


def test_settings_behind_an_address_stay_settings(s3):
    files = afresh(f"{s3}/settings?region=us-east-1")
    files.write("x.json", b"1")
    assert afresh(f"{s3}/settings").read("x.json") == b"1"


@pytest.mark.parametrize("address", ["s3://", "://bucket/store"])
def test_an_address_without_a_place_is_refused(address, write_study, capsys):
    assert main(["plan", str(write_study(STUDY)), "--store", address]) == 2
    assert "an address needs a bucket or folder, as in s3://bucket/" in capsys.readouterr().err


def test_every_command_gives_a_place_up_that_does_not_answer(monkeypatch, tmp_path, capsys):
    """Its first question is a short one; the list of everything may take its time."""
    gone = threading.Event()

    class Silent:
        def get_file_info(self, asked):
            gone.wait(60)

    monkeypatch.setattr("mae_ablation.store.remote.file_system", lambda uri: (Silent(), "b"))
    monkeypatch.setattr("mae_ablation.store.waiting.ANSWER_S", 0.3)
    image = tmp_path / "cat.jpg"
    image.touch()
    words = ["reconstruct", "--checkpoint", "3f2a9c", "--image", str(image), "--store", "gs://b"]
    assert main(words) == 2
    gone.set()
    assert "gs://b did not answer within 0 s" in capsys.readouterr().err


def test_a_place_that_does_not_answer_is_given_up(monkeypatch, capsys, write_study):
    gone = threading.Event()
    monkeypatch.setattr("mae_ablation.store.remote.file_system", lambda uri: gone.wait(60))
    monkeypatch.setattr("mae_ablation.store.waiting.ANSWER_S", 0.3)
    monkeypatch.setattr("mae_ablation.store.waiting.SAID_AFTER_S", 0.1)
    store = "gs://out-of-reach/store"
    assert main(["plan", str(write_study(STUDY)), "--store", store]) == 2
    gone.set()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"waiting for {store} ..."
    assert said[-1] == (
        f"{store}: cannot read the store: {store} did not answer within 0 s: check its name, the "
        "network and the credentials"
    )


@pytest.mark.parametrize("place", ["s3", "memory"])
def test_files_on_an_object_store(place, request):
    uri = request.getfixturevalue("s3") + "/files" if place == "s3" else "memory://mae/files"
    files = afresh(uri)
    assert files.read("a/x.json") is None and files.names("") == [] and not files.exists("a")
    files.write("a/x.json", b"1")
    files.write("a/b/y.json", b"22")
    files.write("a/x.json", b"3")
    assert files.read("a/x.json") == b"3"
    assert files.names("a") == ["b", "x.json"] and files.exists("a/b")
    assert files.size("a") == 3
    other = afresh(uri)
    assert other.read("a/x.json") == b"3" and other.names("") == ["a"]
    files.remove("a/b")
    files.remove("a/none")
    other.refresh()
    assert other.names("a") == ["x.json"]


def test_lines_go_with_the_next_file_of_the_folder(s3):
    files = afresh(s3 + "/lines")
    files.append("p/journal.jsonl", b"1\n")
    files.append("p/journal.jsonl", b"2\n")
    assert files.read("p/journal.jsonl") == b"1\n2\n"
    assert afresh(s3 + "/lines").read("p/journal.jsonl") is None
    files.write("p/checkpoint.pt", b"weights")
    assert afresh(s3 + "/lines").read("p/journal.jsonl") == b"1\n2\n"
    again = afresh(s3 + "/lines")
    again.append("p/journal.jsonl", b"3\n")
    again.write("p/result.json", b"{}")
    assert afresh(s3 + "/lines").read("p/journal.jsonl") == b"1\n2\n3\n"


def test_a_claim_is_renewed_and_a_dead_one_is_free_after_a_while(s3, quick):
    mine = claim.take(files_at(s3 + "/claims"), ID, "me")
    other = afresh(s3 + "/claims")
    for _ in range(8):
        assert claim.take(other, ID, "other") is None
        time.sleep(0.1)
    mine.leave()  # as if its process had been killed
    theirs, began = None, time.monotonic()
    while theirs is None and time.monotonic() - began < 20:
        time.sleep(0.05)
        theirs = claim.take(other, ID, "other")
    assert theirs is not None
    mine.release()
    assert claim.take(afresh(s3 + "/claims"), ID, "third") is None, "a lost claim frees nothing"
    theirs.release()
    assert claim.take(files_at(s3 + "/claims"), ID, "me") is not None


def test_a_released_claim_is_not_written_again_by_a_beat_under_way(quick):
    files = Slow()
    for _ in range(20):
        held = claim.take(files, ID, "me")
        files.reading.clear()
        files.reading.wait(5)  # the beat has read and is about to write
        held.release()
        time.sleep(0.1)
        assert files.read_now(f".claims/{ID}.json") is None


def test_a_restarted_lane_takes_its_own_claim_over_at_once(s3, quick):
    first = claim.take(files_at(s3 + "/own"), ID, "run-1/lane-0")
    first.leave()
    assert claim.take(afresh(s3 + "/own"), ID, "run-1/lane-0") is not None


@pytest.mark.slow
def test_a_study_on_an_object_store_gives_the_same_numbers(s3, quick, write_study, tmp_path):
    study = write_study(STUDY, TOY_RECIPE)
    here = plan_study(study, store=tmp_path / "store")
    there = plan_study(study, store=s3 + "/study")
    for plan in (here, there):
        assert [run_trial(trial, plan.store.root) for trial in plan.trials] == [None] * 4
    assert plan_study(study, store=s3 + "/study").missing() == []
    for trial in here.trials:
        for phase in trial.phases:
            local, remote = (phase.folder(Store(p.store.root)) for p in (here, there))
            assert [row["s"] for row in local.journal.read()] == [
                row["s"] for row in remote.journal.read()
            ]
            assert local.result()["train_loss"] == remote.result()["train_loss"]
            assert [c.step for c in local.checkpoints()] == [c.step for c in remote.checkpoints()]
            assert local.pictures() == remote.pictures()

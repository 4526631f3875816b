"""`store export` and `store import`: results travel, and nothing false gets into a store."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from conftest import write_place

from mae_ablation import cli
from mae_ablation.api import plan_study
from mae_ablation.store import archive
from mae_ablation.store.folder import Store

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose study is finished, as far as the store says."""
    write_place(tmp_path, STUDY)
    monkeypatch.chdir(tmp_path)
    for trial in plan_study(Path("studies/x.yaml"), store="store").trials:
        for phase in trial.phases:
            finish(phase, Store("store"))
    return tmp_path


def finish(phase, store):
    folder = phase.folder(store)
    folder.begin(phase.document)
    folder.journal.append(1, {"loss": 1.0})
    folder.save_picture(1, b"png")
    folder.save_checkpoint(1, b"weights")
    folder.finish({"test_acc1": 50.0, "commit": "abc"})


def store(capsys, *words):
    status = cli.main(["store", *words])
    said = capsys.readouterr()
    return status, said.out + said.err


def export(capsys):
    return store(capsys, "export", "results.zip", "studies/x.yaml")


def rewritten(change):
    """The export with another content: `change` gets its members by name."""
    with zipfile.ZipFile("results.zip") as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile("results.zip", "w") as new:
        for name, data in members.items():
            new.writestr(name, data)


def resealed(change):
    """As `rewritten`, by somebody who also makes the checksums fit."""

    def sealed(members):
        import hashlib

        change(members)
        manifest = json.loads(members[archive.MANIFEST])
        rest = {name: data for name, data in members.items() if name != archive.MANIFEST}
        manifest["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in rest.items()}
        members[archive.MANIFEST] = json.dumps(manifest).encode()

    rewritten(sealed)


def test_results_travel_and_only_the_difference_is_run(clone, capsys):
    status, said = export(capsys)
    assert status == 0 and said.startswith("results.zip: 6 of 6 phases are finished and exported")
    status, said = store(capsys, "import", "results.zip", "--store", "theirs")
    assert (status, said) == (0, "imported 6 of 6 phases into theirs\n")
    assert plan_study(Path("studies/x.yaml"), store="theirs").missing() == []
    assert [folder.checkpoints() for folder in Store("theirs").folders()] == [[]] * 6
    Path("studies/x.yaml").write_text(STUDY.replace("0.75]", "0.75, 0.25]"))
    [more] = plan_study(Path("studies/x.yaml"), store="theirs").missing()
    assert "0.25" in more.label


def test_the_same_results_give_the_same_file(clone, capsys):
    export(capsys)
    first = Path("results.zip").read_bytes()
    export(capsys)
    assert Path("results.zip").read_bytes() == first


def test_what_is_there_is_left_alone(clone, capsys):
    export(capsys)
    assert store(capsys, "import", "results.zip") == (
        0,
        "imported 0 of 6 phases into store\n"
        "6 are finished, or at work, in the store already and were left alone\n",
    )


def test_an_export_needs_a_name_that_says_zip(clone, capsys):
    assert store(capsys, "export", "results.tar", "studies/x.yaml") == (
        2,
        "results.tar: an export is a .zip file: name it so\n",
    )


def first_journal(members):
    return next(name for name in sorted(members) if name.endswith("journal.jsonl"))


def climb(members):
    members["../outside.json"] = b"{}"


def damage_journal(members):
    members[first_journal(members)] += b"x"


def lose_journal(members):
    del members[first_journal(members)]


def swap_documents(members):
    one, other = [name for name in sorted(members) if name.endswith("phase.json")][:2]
    members[one], members[other] = members[other], members[one]


def lose_document(members):
    del members[next(name for name in sorted(members) if name.endswith("phase.json"))]


@pytest.mark.parametrize(
    ("tamper", "change", "reason"),
    [
        (rewritten, damage_journal, "has another checksum than MANIFEST.json says"),
        (rewritten, lose_journal, "is not both in the archive and in its MANIFEST.json"),
        (rewritten, climb, "../outside.json is not both in the archive and in its MANIFEST.json"),
        (resealed, climb, "'../outside.json' is no name of a result's file"),
        (resealed, swap_documents, "holds phase.json of another phase"),
        (resealed, lose_document, "is missing or damaged"),
    ],
)
def test_a_false_archive_is_one_line_and_leaves_the_store_as_it_was(
    clone, capsys, tamper, change, reason
):
    export(capsys)
    tamper(change)
    status, said = store(capsys, "import", "results.zip", "--store", "theirs")
    assert status == 2 and said.startswith("results.zip: nothing was imported: ")
    assert reason in said and said.count("\n") == 1
    assert not Path("theirs").exists() and not Path("../outside.json").exists()


def test_what_is_no_archive_is_one_line(clone, capsys):
    Path("results.zip").write_bytes(b"no zip")
    status, said = store(capsys, "import", "results.zip")
    assert status == 2 and "nothing was imported: not a zip file that can be read" in said
    shutil.rmtree("store")
    status, said = store(capsys, "import", "absent.zip")
    assert (status, said) == (2, "absent.zip: cannot read it: No such file or directory\n")


def test_results_of_another_version_of_the_code_are_marked(clone, capsys, monkeypatch):
    from mae_ablation.launch import exchange

    export(capsys)
    versions = {"linear_probe": 7}
    monkeypatch.setattr(exchange, "version_of", lambda kind: versions.get(kind, 2))
    _, said = store(capsys, "import", "results.zip", "--store", "theirs")
    assert said.endswith(
        "4 results of linear_probe are of version 2 of its code, here it is 7: no study of this "
        "version uses them\n"
    )

"""What was declared before the first result: written once, never changed, asked by every report."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.launch.exchange import export_results, import_results
from mae_ablation.report.report import write_report
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.declaration import declarations
from mae_ablation.store.folder import Store
from mae_ablation.study.declared import (
    declaration_of,
    declare_plan,
    declared_in,
    declared_lines,
    descriptive,
)

STUDY = """\
recipe: toy
baseline: {mask_ratio: 0.75}
factors:
  mask_ratio: [0.5, 0.75]
seeds: {first: 3, most: 5}
phases: [pretrain, linear_probe]
"""
FIXED = STUDY.replace("{first: 3, most: 5}", "2")
ROWS = ("0.5", "0.75", "random encoder", "raw pixels")
RESULTS = {
    "0.5": [50.0, 51.0, 50.5, 50.2],
    "0.75": [50.4, 50.1, 50.0, 50.3],
    "random encoder": [30.1, 30.4, 30.0, 30.5],
    "raw pixels": [40.2, 40.1, 40.6, 40.4],
}


def test_it_says_what_the_tests_depend_on_and_who_said_so_when(planned):
    plan = planned(STUDY + "margin: 0.5\n")
    found = declare_plan(plan)
    (file,) = [name for name in plan.store.files.names("declarations")]
    assert file == f"x-{found.rows}-0.json"
    said = json.loads(plan.store.files.read(f"declarations/{file}"))
    told = {name: said[name] for name in ("looks", "alpha", "spending", "margin", "seeds")}
    assert told == {
        "looks": [3, 5],
        "alpha": 0.05,
        "spending": "pocock",
        "margin": 0.5,
        "seeds": [0, 1, 2, 3, 4],
    }
    assert (said["labels"], said["baseline"], said["columns"]) == (
        list(ROWS),
        "0.75",
        ["linear_probe"],
    )
    assert said["results"] == 0 and "@" in said["who"] and said["when"].endswith("+00:00")
    assert plan.store.folders() == [], "a declaration is no phase"


def test_the_same_study_is_declared_once(planned):
    first = declare_plan(planned())
    give_accuracies(planned(), RESULTS)
    assert declare_plan(planned()) == first == declared_in(planned())
    assert descriptive(planned()) == ""
    assert declared_lines([planned()], []) == [f"x: declared before the first result, {first.when}"]


CHANGES = [
    STUDY + "margin: 0.5\n",
    STUDY + "alpha: 0.1\n",
    STUDY + "spending: obrien_fleming\n",
    STUDY.replace("most: 5", "most: 6"),
    FIXED,
]


@pytest.mark.parametrize("changed", CHANGES)
def test_what_is_changed_after_results_is_descriptive(planned, changed):
    declare_plan(planned())
    give_accuracies(planned(), {label: values[:1] for label, values in RESULTS.items()})
    plan = planned(changed)
    assert descriptive(plan).startswith("This table is descriptive only: declared after 1 result")
    assert declare_plan(plan).results == 1
    assert descriptive(plan).startswith("This table is descriptive only: declared after 1 result")
    assert descriptive(planned()) == "", "what was declared first still stands"
    assert len(declarations(plan.store.files, declaration_of(plan).rows)) == 2


def test_of_what_is_changed_before_any_result_the_last_one_stands(planned):
    declare_plan(planned())
    declare_plan(planned(CHANGES[0]))
    give_accuracies(planned(), RESULTS)
    assert descriptive(planned(CHANGES[0])) == ""
    assert descriptive(planned()) == "This table is descriptive only: declared after 4 results."


def test_a_pilot_with_other_seeds_takes_nothing_from_what_is_declared(planned, tmp_path):
    mine, pilot = planned(FIXED), planned(FIXED.replace("seeds: 2", "seeds: [100, 101]"))
    declare_plan(mine)
    give_accuracies(mine, RESULTS)
    declare_plan(pilot)
    give_accuracies(pilot, RESULTS)
    assert descriptive(mine) == descriptive(pilot) == ""
    export_results([pilot], tmp_path / "results.zip")
    declare_plan(replace(mine, store=Store(tmp_path / "other")))
    assert import_results(tmp_path / "results.zip", tmp_path / "other")


def test_results_that_were_there_first_are_counted(planned):
    give_accuracies(planned(FIXED), RESULTS)
    assert declare_plan(planned()).results == 2, "of the level; the baseline alone shows nothing"
    assert descriptive(planned()) == "This table is descriptive only: declared after 2 results."


def test_a_study_that_shares_the_baseline_with_a_finished_one_is_declared_before(planned):
    give_accuracies(planned(), RESULTS)
    other = planned(STUDY.replace("[0.5, 0.75]", "[0.75, 0.9]"))
    assert declare_plan(other).results == 0


def test_fixed_seeds_that_are_added_to_say_which(planned):
    three = planned(FIXED, seeds=3)
    declare_plan(three)
    give_accuracies(three, RESULTS)
    more = planned(FIXED, seeds=4)
    assert descriptive(more) == (
        "This table is descriptive only: declared after 3 results: seeds "
        "were added after results had been seen (0, 1, 2 at first, then 3)."
    )
    assert descriptive(planned(FIXED, seeds=3)) == ""


@pytest.mark.parametrize("few", [1, 2])
def test_seeds_too_few_to_decide_anything_may_be_added_to(planned, few):
    """Their page says what to type to have enough, and that leads to a table with verdicts."""
    declare_plan(planned(FIXED, seeds=few))
    give_accuracies(planned(FIXED, seeds=few), RESULTS)
    assert declare_plan(planned(FIXED, seeds=3)).results == 0
    give_accuracies(planned(FIXED, seeds=3), RESULTS)
    assert descriptive(planned(FIXED, seeds=3)) == ""


def test_seeds_were_added_to_those_that_stood_and_not_to_an_earlier_thought(planned):
    declare_plan(planned(FIXED))
    declare_plan(planned(FIXED, seeds=3))
    give_accuracies(planned(FIXED, seeds=3), RESULTS)
    assert "(0, 1, 2 at first, then 3)" in descriptive(planned(FIXED, seeds=4))


def test_a_level_that_is_added_makes_another_study(planned):
    declare_plan(planned())
    give_accuracies(planned(), RESULTS)
    more = planned(STUDY.replace("[0.5, 0.75]", "[0.5, 0.75, 0.9]"))
    assert declaration_of(more).rows != declaration_of(planned()).rows
    assert declare_plan(more).results == 4


def test_growing_without_a_declaration_is_descriptive_and_fixed_seeds_are_as_they_were(planned):
    give_accuracies(planned(), RESULTS)
    assert descriptive(planned()) == (
        "This table is descriptive only: its looks were not declared before the first result."
    )
    assert descriptive(planned(FIXED)) == ""


def test_a_finished_study_that_was_never_declared_is_left_as_it_is(planned):
    give_accuracies(planned(FIXED), RESULTS)
    assert declared_lines([planned(FIXED)], todo=[]) == []
    assert declared_in(planned(FIXED)) is None and descriptive(planned(FIXED)) == ""
    more = planned(FIXED, seeds=9)
    declared_lines([more], todo=more.missing())
    assert "declared after" in descriptive(more), "it is to be run on: seeds are added"


def test_the_report_says_what_was_declared(planned, tmp_path):
    declare_plan(planned(FIXED, seeds=3))
    give_accuracies(planned(FIXED, seeds=3), RESULTS)
    write_report(planned(), tmp_path / "report")
    about = json.loads((tmp_path / "report" / "report.json").read_text())
    assert about["looks"] == [3, 5] and about["declared"]["results"] == 3
    for name in ("table.md", "index.html", "table.tex"):
        assert "declared after 3 results" in (tmp_path / "report" / name).read_text()


def test_a_damaged_declaration_is_no_declaration(planned):
    plan = planned()
    found = declare_plan(plan)
    plan.store.files.write(f"declarations/x-{found.rows}-0.json", b"{}")
    with pytest.raises(Damaged, match=r"is damaged: put it back from a copy"):
        declared_in(plan)


def test_declarations_travel_with_the_results(planned, tmp_path):
    plan = planned()
    found = declare_plan(plan)
    give_accuracies(plan, RESULTS)
    export_results([plan], tmp_path / "results.zip")
    import_results(tmp_path / "results.zip", tmp_path / "other")
    there = plan_study(plan.study.path, store=tmp_path / "other")
    assert declared_in(there) == found and descriptive(there) == ""
    assert Store(tmp_path / "other").folders()


@pytest.mark.parametrize("name", ["my study (2), müde", "ü" * 110, "50 % & more"])
def test_declarations_of_any_name_of_a_study_travel(write_study, tmp_path, name):
    path = write_study(STUDY)
    study = path.rename(path.with_name(f"{name}.yaml"))
    plan = plan_study(study, store=tmp_path / "store")
    found = declare_plan(plan)
    give_accuracies(plan, RESULTS)
    export_results([plan], tmp_path / "results.zip")
    import_results(tmp_path / "results.zip", tmp_path / "other")
    assert declared_in(plan_study(study, store=tmp_path / "other")) == found
    assert found.study == name


def carried(planned, tmp_path, text=STUDY, change=None):
    """The export of another store whose study was declared and run; `change`: of its members."""
    plan = replace(planned(text), store=Store(tmp_path / "theirs"))
    declare_plan(plan)
    give_accuracies(plan, {label: values[:2] for label, values in RESULTS.items()})
    export_results([plan], tmp_path / "results.zip")
    if change:
        with zipfile.ZipFile(tmp_path / "results.zip") as old:
            members = {name: old.read(name) for name in old.namelist()}
        (name,) = [name for name in members if name.startswith("declarations/")]
        members[name] = json.dumps({**json.loads(members[name]), **change}).encode()
        manifest = json.loads(members["MANIFEST.json"])
        manifest["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
        members["MANIFEST.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(tmp_path / "results.zip", "w") as new:
            for name, data in members.items():
                new.writestr(name, data)
    return tmp_path / "results.zip"


def test_a_declaration_that_contradicts_one_of_the_store_is_refused_in_a_line(planned, tmp_path):
    archive = carried(planned, tmp_path, CHANGES[0])
    mine = declare_plan(planned())
    before = sorted(path for path in (tmp_path / "store").rglob("*"))
    with pytest.raises(UserError) as error:
        import_results(archive, tmp_path / "store")
    assert str(error.value) == (
        f"{archive}: nothing was imported: x was declared with looks at 3, 5 seeds, alpha 0.05, "
        f"pocock, margin 0.5 there, here with looks at 3, 5 seeds, alpha 0.05, pocock, no margin; "
        f"import it into a store of its own with --store"
    )
    assert sorted(path for path in (tmp_path / "store").rglob("*")) == before
    assert declared_in(planned()) == mine


def test_the_same_declaration_made_twice_is_one(planned, tmp_path):
    mine = declare_plan(planned())
    assert import_results(carried(planned, tmp_path), tmp_path / "store")
    assert declarations(planned().store.files, mine.rows) == [mine]


def test_a_later_declaration_comes_behind_those_of_the_store(planned, tmp_path):
    """Theirs was declared after results, and so says nothing against what is declared here."""
    theirs = replace(planned(CHANGES[0]), store=Store(tmp_path / "theirs"))
    give_accuracies(theirs, RESULTS)
    archive = carried(planned, tmp_path, CHANGES[0])
    mine = declare_plan(planned())
    import_results(archive, tmp_path / "store")
    known = declarations(planned().store.files, mine.rows)
    assert [(each.number, each.results) for each in known] == [(0, 0), (1, 4)]
    assert descriptive(planned()) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"looks": [3, 4, 5]}, "the declaration of x is not the one that was hashed"),
        ({"margin": 0.5}, "the declaration of x is not the one that was hashed"),
        ({"rows": "0" * 12}, "is of the rows 000000000000"),
    ],
)
def test_a_declaration_that_was_tampered_with_is_one_line(planned, tmp_path, change, reason):
    archive = carried(planned, tmp_path, change=change)
    with pytest.raises(UserError, match=f"nothing was imported: .*{reason}"):
        import_results(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_store_that_takes_no_declaration_is_one_line(planned, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("mae_ablation.store.files.LocalFiles.write", full)
    with pytest.raises(UserError, match="x.yaml: cannot declare the study: no space left"):
        declared_lines([planned()], planned().missing())

"""A study with looks on Ray: killed, gone on with, grown, and its error rates kept throughout."""

import json
import shutil

import pytest
from conftest import ROOT
from processes import finish, journal_lines, start, wait_for
from toys import run_undisturbed, settled

from mae_ablation.api import plan_study
from mae_ablation.report.standing import find_standing
from mae_ablation.store.folder import Store

STUDY = """\
paper: figure_5
recipe: smoke
factors:
  mask_ratio: [0.5, 0.75]
seeds: {first: 3, most: 4}
margin: 30
phases: [pretrain, linear_probe]
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a study of the smoke recipe, as a clone of the repository would have."""
    shutil.copytree(ROOT / "studies" / "recipes", tmp_path / "studies" / "recipes")
    (tmp_path / "studies" / "x.yaml").write_text(STUDY)
    return tmp_path


def results(store):
    """What every finished phase says, by its folder's name."""
    return {f.name: settled(f.result()) for f in Store(store).folders() if f.finished()}


def about(place):
    return json.loads((place / "reports" / "x" / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.rare
def test_a_study_with_looks_is_killed_and_grown(place, tmp_path_factory):
    # Killed in its first look, the same command goes on to the last one.
    driver = start(place)
    wait_for(lambda: journal_lines(place) > 2, "training to begin")
    driver.kill()
    driver.wait()
    declared = [path.read_bytes() for path in place.glob("store/declarations/*")]
    said = finish(start(place), place)
    assert "seeds: 3 at first, at most 4, looks at 3, 4, no difference: within ±30" in said
    assert "x: declared before the first result" in said and " rows decided" in said
    plan = plan_study(place / "studies" / "x.yaml", store=place / "store")
    stands = find_standing(plan)
    assert not stands.going, "every row is decided, or has the most seeds"
    assert [path.read_bytes() for path in place.glob("store/declarations/*")] == declared

    # Decided rows got no more seeds, and what was trained is what an undisturbed run gives.
    report = about(place)
    assert report["descriptive"] == "" and report["declared"]["results"] == 0
    assert "looks_linear_probe.png" in report["files"] and report["finished"] == report["asked"]
    table = (place / "reports" / "x" / "table.md").read_text()
    assert "![Looks: Linear probe]" in table and "| 95 % with images |" in table
    mine = results(place / "store")
    other = tmp_path_factory.mktemp("undisturbed") / "store"
    run_undisturbed(place / "studies" / "x.yaml", other)
    assert mine and mine.items() <= results(other).items()

    # The same command trains nothing; another end is other tests, and the table says so.
    lines = journal_lines(place)
    finish(start(place), place)
    assert results(place / "store") == mine and journal_lines(place) == lines
    said = finish(start(place, "--until-decided", "--most", "5"), place)
    assert "x: This table is descriptive only: declared after " in said
    assert mine.items() <= results(place / "store").items()
    assert about(place)["descriptive"].startswith("This table is descriptive only: declared after ")
    assert "descriptive only" in (place / "reports" / "x" / "table.md").read_text()
    assert len(list(place.glob("store/declarations/*"))) == 2

    # As it was declared at first it still stands.
    finish(start(place), place)
    assert about(place)["descriptive"] == ""

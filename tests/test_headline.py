"""The sentence of a table that one would quote names only what is decided, and the paper beside."""

import pytest
from toys import tabulate

from mae_ablation.report.headline import summarise_baseline

STUDY = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.1, 0.5, 0.75, 0.9]
seeds: 5
margin: 1
"""
PROBE = "linear_probe_acc1"
BASE = [70.0, 71.0, 70.4, 70.8, 70.2]
NOISE = [0.1, -0.1, 0.2, -0.2, 0.0]


def apart_by(points):
    return [base + points + noise for base, noise in zip(BASE, NOISE, strict=True)]


@pytest.fixture
def sentence(write_study, tmp_path):
    def make(study=STUDY, **differences):
        levels = {"0.1": -5.0, "0.5": 0.0, "0.9": -3.0} | {
            name.removeprefix("at_").replace("_", "."): value for name, value in differences.items()
        }
        rows = {name: apart_by(d) if isinstance(d, float) else d for name, d in levels.items()}
        rows |= {"random encoder": apart_by(-20.0), "raw pixels": apart_by(5.0)}
        accuracy = {"0.75": BASE, **rows}
        plan, table, _ = tabulate(write_study(study), tmp_path / "store", accuracy)
        return summarise_baseline(plan, PROBE, table[table["metric"] == PROBE])

    return make


def test_what_the_baseline_beats_is_named_with_what_the_paper_says(sentence):
    assert sentence() == (
        "On fashion_mnist, recipe toy: mask ratio 0.75 beats 0.1, 0.9, as in the paper; does not "
        "differ by more than 1 from 0.5, where the paper has a difference."
    )


def test_what_goes_against_the_paper_is_said_as_plainly(sentence):
    assert "loses to 0.5, against the paper" in sentence(at_0_5=4.0)


def test_what_is_not_decided_is_not_named_as_if_it_were(sentence):
    scattered = [65.0, 76.0, 69.0, 74.0, 67.0]
    said = sentence(at_0_5=scattered)
    assert said.endswith("beats 0.1, 0.9, as in the paper; is not told from 0.5.")


def test_without_a_decided_row_there_is_no_such_sentence(sentence):
    scattered = [65.0, 76.0, 69.0, 74.0, 67.0]
    assert sentence(at_0_1=scattered, at_0_5=scattered, at_0_9=scattered) == ""


def test_a_study_of_two_factors_has_no_such_sentence(sentence):
    two = STUDY.replace("paper: figure_5\n", "").replace(
        "seeds: 5", "  decoder_depth: [1, 2]\nseeds: 5"
    )
    assert sentence(two, at_1=-5.0, at_2=-5.0, baseline=BASE) == ""

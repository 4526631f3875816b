"""What seeds and what test images add to a difference's error: by hand, on a table, in a plan."""

import re

import numpy as np
import pytest
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.readings import Readings
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.spread import (
    class_accuracies,
    format_limit,
    margin_allows,
    point_line,
    split_error,
)
from mae_ablation.report.standing import find_standing
from mae_ablation.report.table import table_frame
from mae_ablation.store.predictions import NAME, SUM, Predictions, pack_predictions, sum_of
from mae_ablation.study.seeds import seeds_to_see

# by hand, and in simulated studies ----------------------------------------------------------------


def simulated(rng, seeds, images, *, seed_part, image_part):
    """Paired differences in {-1, 0, 1} without effect; parts as chances of a right answer more."""
    chance = 0.5 + rng.normal(0, seed_part, (seeds, 1)) + rng.normal(0, image_part, (1, images))
    draws = rng.random((2, seeds, images))
    return (draws[0] < chance).astype(int) - (draws[1] < 0.5).astype(int)


def test_the_parts_by_hand():
    same = split_error([[1, 0, 0, -1, 1, 1], [1, 0, 0, -1, 1, 1]])  # all of it is the images'
    assert same.difference == pytest.approx(100 / 3) and same.seed_sd == 0
    assert same.image_se == pytest.approx(100 * np.std([1, 0, 0, -1, 1, 1], ddof=1) / 6**0.5)
    apart = split_error([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])  # all of it is the seeds'
    assert (apart.seed_sd, apart.image_se) == (pytest.approx(100), 0)


def test_the_parts_are_found_again_and_the_interval_counts_both():
    rng = np.random.default_rng(1)
    parts = {"seed_part": 0.01, "image_part": 0.3}
    found = [split_error(simulated(rng, 10, 400, **parts)) for _ in range(600)]
    assert np.mean([f.image_se**2 for f in found]) ** 0.5 == pytest.approx(30 / 400**0.5, rel=0.1)
    ends = [f.interval() for f in found]
    assert np.mean([low <= 0 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.03)
    seeds_only = np.mean([abs(f.difference) <= 2.262 * f.seed_se for f in found])
    assert seeds_only < 0.9  # what an interval over seeds alone would have covered


def test_few_seeds_are_never_made_more_certain_by_images():
    rng = np.random.default_rng(2)
    for _ in range(50):
        found = split_error(simulated(rng, 3, 400, seed_part=0.05, image_part=0.2))
        alone = 4.3027 * found.seed_se  # t of two degrees of freedom
        assert found.interval()[1] - found.difference >= alone * (1 - 1e-4)


def test_the_sentence_says_what_helps():
    assert format_limit(0.8, 0.3) == (
        "test images: ± 0.3; seeds: ± 0.8: more seeds help, more images do not"
    )
    assert format_limit(0.2, 0.5).endswith("more images help, more seeds do not")
    assert format_limit(0.5, 0.4).endswith("more of either helps")
    one = split_error([[1, 0, 0, -1]])
    assert format_limit(one.seed_se, one.image_se).endswith("unknown from one: more seeds help")
    assert np.isnan(one.interval()).all()


def test_no_number_of_seeds_sees_what_the_images_hide():
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.0) == 10  # power.t.test, paired: 9.9
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.2) == 14
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.4) is None
    assert seeds_to_see(1.0, seed_sd=0.0, image_se=0.1) == 2
    assert margin_allows(0.5, 0.2) and margin_allows(0.5, None) and not margin_allows(0.2, 0.15)


def test_accuracies_of_classes():
    label = np.array([0, 0, 1, 1, 1])
    predicted = ([0, 1, 1, 1, 0], [0, 0, 1, 0, 0])
    answers = {i: Predictions(np.array(each), label) for i, each in enumerate(predicted)}
    found = class_accuracies(answers, 3)
    assert found[:2] == pytest.approx([75.0, 50.0]) and np.isnan(found[2])


# on a table ---------------------------------------------------------------------------------------

STUDY = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
margin: 3
"""
GROWING = STUDY.replace("seeds: 3", "seeds: {first: 3, most: 5}")
IMAGES, CLASSES = 400, 10
LABEL = np.arange(IMAGES) % CLASSES


def hard(share, shift=0):
    """Images that are answered wrongly: every n-th, from another one on."""
    return (np.arange(IMAGES) + shift) % round(1 / share) == 0


WRONG = {  # by level, one per seed
    # other images than the baseline gets wrong, the same ones in every seed
    "0.5": [hard(0.1, 1), hard(0.1, 1), hard(0.1, 1) & (np.arange(IMAGES) > 9)],
    "0.75": [hard(0.1)] * 3,
    # the baseline's, and more of them in one seed than in another
    "0.9": [hard(0.1), hard(0.1) | hard(0.05, 3), hard(0.1) | hard(0.025, 7)],
    "random encoder": [hard(0.5)] * 3,
    "raw pixels": [hard(0.5)] * 3,
}


@pytest.fixture
def planned(write_study, tmp_path):
    """Plans a study whose rows answer some images wrongly."""

    def make(study=STUDY, wrong=WRONG, label=LABEL):
        plan = plan_study(write_study(study), store=tmp_path / "store")
        answers = {
            level: [Predictions(np.where(w, (LABEL + 1) % CLASSES, LABEL), LABEL) for w in each]
            for level, each in wrong.items()
        }
        give_accuracies(plan, {level: [a.acc1 for a in each] for level, each in answers.items()})
        for row in (*plan.rows, *plan.references):
            for each, trial in zip(answers[row.label], row.trials.values(), strict=False):
                keep_answers(trial.phases[-1].folder(plan.store), each)
        return plan

    return make


def keep_answers(folder, answers):
    data = pack_predictions(answers, CLASSES)
    folder.files.write(f"{folder.name}/{NAME}", data)
    folder.finish({**folder.result(), SUM: sum_of(data)})


def documented(plan):
    results = results_frame(plan)
    return ReportDocument(plan, table_frame(plan, results, Readings(plan.store)), results)


def test_a_table_says_whether_seeds_or_test_images_limit_it(planned):
    document = documented(planned())
    rows = document.table.set_index("level")
    assert rows.loc["0.5", "image_se"] > 10 * rows.loc["0.5", "seed_se"]
    assert rows.loc["0.9", "seed_se"] > rows.loc["0.9", "image_se"]
    for level in ("0.5", "0.9"):  # what counts both is no narrower than what counts the images
        half = (rows.loc[level, "both_high"] - rows.loc[level, "both_low"]) / 2
        assert half > 1.9 * rows.loc[level, "image_se"]
    (section,) = document.sections
    assert section.findings[-1] == (
        "Standard error of a difference: test images: ± 1.6; seeds: ± 1.0: more of either helps."
    )
    assert not any("binomial" in text for text in section.detectable)


def test_answers_that_are_damaged_or_of_other_images_are_none(planned):
    plan = planned()
    row = next(row for row in plan.rows if row.label == "0.9")
    for trial in row.trials.values():
        other = Predictions(LABEL, LABEL[::-1].copy())
        keep_answers(trial.phases[-1].folder(plan.store), other)
    rows = documented(plan).table.set_index("level")
    assert np.isnan(rows.loc["0.9", "image_se"]) and rows.loc["0.5", "image_se"] > 0
    for trial in plan.trials:
        folder = trial.phases[-1].folder(plan.store)
        folder.files.write(f"{folder.name}/{NAME}", b"no answers")
    document = documented(plan)
    assert {"image_se", "seed_se", "both_low"}.isdisjoint(document.table.columns)
    assert any("binomial" in text for text in document.sections[0].detectable)


def test_no_difference_is_claimed_nowhere_within_the_error_of_the_test_images(planned, tmp_path):
    """The seeds put 0.5 within 3 points of the baseline; 400 images do not."""
    plan = planned(GROWING)
    document = documented(plan)
    half = document.table.set_index("level").loc["0.5"]
    assert half["decided"] == "within the error of the test images after 3 seeds"
    assert half["verdict"] == "inconclusive"
    assert "but test images alone err by 2.23 points" in half["note"]
    without = documented(planned(GROWING.replace("paper: figure_5\n", "")))
    said = without.sections[0].headline
    assert "no difference" not in said and "1 within the error of the test images" in said
    (line,) = find_standing(plan).summary()
    assert "within the error of the test images: 0.5 (3 seeds)" in line
    write_report(plan, tmp_path / "x")
    assert "within the error" in (tmp_path / "x" / "looks_linear_probe.svg").read_text("utf-8")


def test_the_page_has_each_class_folded(planned, tmp_path):
    write_report(planned(), tmp_path / "x")
    text = (tmp_path / "x" / "index.html").read_text()
    folded = text[text.index("<details><summary>Accuracy of each class") :]
    folded = folded[: folded.index("</details>")]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", folded)
    assert heads == ["class", "0.5", "0.75", "0.9", "random encoder", "raw pixels"]
    lines = re.findall(r"<tr><td>(\d+)</td>(.*?)</tr>", folded)
    assert [number for number, _ in lines] == [str(c) for c in range(CLASSES)]
    cells = re.findall(r">([\d.]+)</td>", lines[0][1])
    assert cells == ["100.0", "0.0", "0.0", "0.0", "0.0"]  # the baseline errs on class 0 alone
    assert "95 % with images" in text


# in a plan ----------------------------------------------------------------------------------------


def test_a_plan_says_how_many_seeds_a_point_takes(planned, write_study, tmp_path):
    plan = planned(wrong={level: w[:1] * 3 for level, w in WRONG.items()} | {"0.5": WRONG["0.5"]})
    assert point_line(plan, Readings(plan.store)) == [
        "a difference of 1 point takes, by the results so far: linear_probe more test images than "
        "there are (± 0.1 per seed, test images ± 1.6)"
    ]
    other = plan_study(write_study(STUDY), store=tmp_path / "other")
    assert point_line(other, Readings(other.store)) == []
    give_accuracies(other, {**{level: [80.0, 81.0, 82.5] for level in WRONG}, "0.5": [80, 81, 83]})
    assert point_line(other, Readings(other.store)) == [
        "a difference of 1 point takes, by the results so far: linear_probe about 4 seeds (± 0.2 "
        "per seed)"
    ]
    one = plan_study(write_study(STUDY), store=tmp_path / "other", seeds=1)
    assert point_line(one, Readings(one.store)) == []

"""Answers to single test images: what they say of a table, of a page and of a plan."""

import re
from dataclasses import replace

import numpy as np
import pytest
from stores import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.report.readings import Readings
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.sentences import could_see, sentences
from mae_ablation.report.spread import point_line
from mae_ablation.report.table import table_frame
from mae_ablation.report.verdict import headline
from mae_ablation.store.predictions import NAME, SUM, Predictions, pack, sum_of

STUDY = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
margin: 3
"""
IMAGES, CLASSES = 400, 10
LABEL = np.arange(IMAGES) % CLASSES
METRIC = "linear_probe_acc1"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Toy results need not outlive a power failure."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def answered(wrong):
    """Answers of which those to some images are wrong."""
    return Predictions(predicted=np.where(wrong, (LABEL + 1) % CLASSES, LABEL), label=LABEL)


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


def give_answers(plan, wrong=WRONG):
    """Results of a plan with the answers behind them."""
    answers = {level: list(map(answered, each)) for level, each in wrong.items()}
    give_accuracies(plan, {level: [a.acc1 for a in each] for level, each in answers.items()})
    for row in (*plan.rows, *plan.references):
        for each, trial in zip(answers[row.label], row.trials.values(), strict=True):
            folder, data = trial.phases[-1].folder(plan.store), pack(each, CLASSES)
            folder.files.write(f"{folder.name}/{NAME}", data)
            folder.finish({**folder.result(), SUM: sum_of(data)})


@pytest.fixture
def plan(write_study, tmp_path):
    return plan_study(write_study(STUDY), store=tmp_path / "store")


def table_of(plan):
    results = results_frame(plan)
    return table_frame(plan, results, Readings(plan.store)), results


def test_a_table_says_whether_seeds_or_test_images_limit_it(plan):
    give_answers(plan)
    table, results = table_of(plan)
    rows = table.set_index("level")
    assert rows.loc["0.5", "image_se"] > 10 * rows.loc["0.5", "seed_se"]
    assert rows.loc["0.9", "seed_se"] > rows.loc["0.9", "image_se"]
    for level in ("0.5", "0.9"):  # what counts both is no narrower than what counts the images
        half = (rows.loc[level, "both_high"] - rows.loc[level, "both_low"]) / 2
        assert half > 1.9 * rows.loc[level, "image_se"]
    (said,) = [s for s in sentences(plan, METRIC, results, table) if "Standard error" in s]
    assert said == (
        "Standard error of a difference: test images: ± 1.6; seeds: ± 1.0: more of either helps."
    )
    assert not any("binomial" in text for text in could_see(plan, METRIC, results, table))


def test_without_answers_a_table_is_as_it_was(plan):
    give_accuracies(plan, {level: [80.0, 81.0, 82.5] for level in WRONG})
    table, results = table_of(plan)
    assert {"image_se", "seed_se", "both_low"}.isdisjoint(table.columns)
    assert any("binomial" in text for text in could_see(plan, METRIC, results, table))
    assert "Standard error" not in " ".join(sentences(plan, METRIC, results, table))


def test_a_damaged_file_of_answers_is_none(plan):
    give_answers(plan)
    for trial in plan.trials:
        folder = trial.phases[-1].folder(plan.store)
        folder.files.write(f"{folder.name}/{NAME}", b"no answers")
    assert "image_se" not in table_of(plan)[0]


def test_rows_that_were_asked_about_other_images_are_not_split(plan):
    give_answers(plan)
    row = next(row for row in plan.rows if row.label == "0.9")
    for trial in row.trials.values():
        folder = trial.phases[-1].folder(plan.store)
        other = replace_label(answered(hard(0.1)))
        folder.files.write(f"{folder.name}/{NAME}", pack(other, CLASSES))
        folder.finish({**folder.result(), SUM: sum_of(pack(other, CLASSES))})
    rows = table_of(plan)[0].set_index("level")
    assert np.isnan(rows.loc["0.9", "image_se"]) and rows.loc["0.5", "image_se"] > 0


def replace_label(answers):
    return answers._replace(label=answers.label[::-1].copy())


def test_no_difference_is_not_claimed_within_the_error_of_the_test_images(plan):
    """The seeds put 0.5 within 3 points of the baseline; 400 images do not."""
    give_answers(plan)
    half = table_of(plan)[0].set_index("level").loc["0.5"]
    assert half["decided"] == "no difference after 3 seeds"
    assert half["verdict"] == "inconclusive"
    assert "but test images alone err by 2.23 points" in half["note"]


def test_without_a_paper_the_headline_does_not_count_it_as_no_difference_either(plan):
    give_answers(plan)
    table = table_of(plan)[0]
    said = headline(table[table["metric"] == METRIC].assign(verdict=""))
    assert "no difference" not in said and "1 within the error of the test images" in said


def test_the_page_has_each_class_folded(plan, tmp_path):
    give_answers(plan)
    files = write_report(plan, tmp_path / "reports" / "x")
    text = next(f for f in files if f.name == "index.html").read_text()
    folded = text[text.index("<details><summary>Accuracy of each class") :]
    folded = folded[: folded.index("</details>")]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", folded)
    assert heads == ["class", "0.5", "0.75", "0.9", "random encoder", "raw pixels"]
    lines = re.findall(r"<tr><td>(\d+)</td>(.*?)</tr>", folded)
    assert [number for number, _ in lines] == [str(c) for c in range(CLASSES)]
    cells = [re.findall(r">([\d.]+)</td>", line) for _, line in lines]
    assert cells[0] == ["100.0", "0.0", "0.0", "0.0", "0.0"]  # the baseline errs on class 0 alone
    assert "95 % with images" in text


def test_a_plan_says_how_many_seeds_a_point_takes(plan, write_study, tmp_path):
    assert point_line(plan, Readings(plan.store)) == []
    give_answers(
        plan, {level: each[:1] * 3 for level, each in WRONG.items()} | {"0.5": WRONG["0.5"]}
    )
    (line,) = point_line(plan, Readings(plan.store))
    assert line == (
        "a difference of 1 point takes, by the results so far: linear_probe more test images than "
        "there are (± 0.1 per seed, test images ± 1.6)"
    )
    other = plan_study(write_study(STUDY), store=tmp_path / "other")
    give_accuracies(other, {**{level: [80.0, 81.0, 82.5] for level in WRONG}, "0.5": [80, 81, 83]})
    assert point_line(other, Readings(other.store)) == [
        "a difference of 1 point takes, by the results so far: linear_probe about 4 seeds (± 0.2 "
        "per seed)"
    ]
    one = plan_study(write_study(STUDY), store=tmp_path / "other", seeds=1)
    assert point_line(one, Readings(one.store)) == []


def test_hours_take_no_points(plan):
    from mae_ablation.report.summary import describe

    give_answers(plan)
    assert "a difference of 1 point takes" in describe(plan)
    hours = replace(plan, study=replace(plan.study, measure="hours"))
    assert "a difference of 1 point takes" not in describe(hours)

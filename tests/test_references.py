"""Numbers of one's own beside the paper's: each has a verdict, and errors name the line."""

import json

import pytest
from toys import give_accuracies

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.report.report import write_report

pytestmark = pytest.mark.usefixtures("without_figures")
STUDY = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
"""
DOE = '  - {source: "Doe et al. 2025, Table 3", levels: {0.50: 75.0, 0.75: 73.1}, n: 2}\n'
ACCURACY = {
    "0.5": [70.0, 71.1, 72.0],
    "0.75": [60.0, 61.0, 62.0],
    "0.9": [50.0, 51.1, 52.0],
    "random encoder": [40.0, 40.0, 40.0],
    "raw pixels": [65.0, 65.0, 65.0],
}


def test_a_stranger_s_table_stands_beside_the_paper_s_with_a_verdict_of_its_own(
    write_study, tmp_path, capsys
):
    path = write_study(STUDY + "reference:\n" + DOE)
    plan = plan_study(path, store=tmp_path / "store")
    give_accuracies(plan, ACCURACY)
    write_report(plan, tmp_path / "x")

    # our 50 % is better than 75 %: so says Doe, and the paper says the opposite
    text = (tmp_path / "x" / "table.md").read_text("utf-8")
    line = next(n for n in text.splitlines() if n.startswith("| 0.5 |") and "differ" in n)
    assert "-3.6: contradicted" in line and "75.0 | +1.9: reproduced | differ" in line
    assert "Doe et al. 2025, Table 3 (n 2)" in text
    assert "reproduced" in (tmp_path / "x" / "index.html").read_text("utf-8")
    about = json.loads((tmp_path / "x" / "report.json").read_text("utf-8"))
    first, baseline, last = about["references"]
    assert first["references"][0]["verdict"] == "reproduced" and first["agreement"] == "differ"
    assert baseline["references"][0]["number"] == 73.1
    assert last["references"][0] == {**first["references"][0], "number": None, "verdict": ""}

    # and what Doe does not have is one line of the plan
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 0
    assert (
        "reference: Doe et al. 2025, Table 3 (n 2), linear_probe of mask_ratio: "
        "2 of 3 levels; it has no number for 0.9"
    ) in capsys.readouterr().out


def test_a_verdict_that_is_not_accepted_fails_the_check(write_study, tmp_path, capsys):
    path = write_study(STUDY + "reference:\n" + DOE)
    words = ["check", str(path), "--store", str(tmp_path / "store"), "--fail-on"]
    assert main([*words, "incomplete,contradicted"]) == 1
    assert capsys.readouterr().err == "x: incomplete: no trial is finished\n"

    # our 50 % is better than 75 %, against the paper and with Doe
    give_accuracies(plan_study(path, store=tmp_path / "store"), ACCURACY)
    assert main([*words, "no-difference"]) == 0
    assert "x: 2 reproduced, 1 contradicted" in capsys.readouterr().out
    assert main([*words, "contradicted,inconclusive"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("x: linear_probe") and "of 0.5: contradicted" in line
    assert main([*words, "contradicts"]) == 2
    assert '--fail-on: unknown verdict "contradicts"' in capsys.readouterr().err


def test_independent_tables_ship_and_may_be_listed_by_name(planned):
    plan = planned(
        "recipe: toy\nbaseline: {pretrain.epochs: 800, pretrain.warmup_epochs: 0}\n"
        "factors: {pretrain.epochs: [400, 800, 1600]}\n"
        "reference: [figure_7, figure_7_mmselfsup_vit_l]\n"
    )
    paper, other = plan.study.references
    assert paper.numbers == {"400": 69.7, "800": 73.5, "1600": 75.1}
    assert other.numbers == {"400": 70.7, "800": 73.7, "1600": 75.5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("reference: table_1z\n", 'x.yaml:6: unknown reference table "table_1z" (did you mean'),
        ("reference: table_1a\n", "x.yaml:6: table_1a has no number for a level and an evaluation"),
        ("reference: {source: Doe}\n", "x.yaml:6: levels missing: a reference has a source and"),
        (
            "reference:\n  source: Doe\n  levels:\n    0.3: 71\n",
            'x.yaml:9: level "0.3" is not in the study: mask_ratio has 0.5, 0.75, 0.9',
        ),
        (
            "reference:\n  source: Doe\n  levels: {0.5: high}\n",
            "x.yaml:8: the number of 0.5 must be a number, not high",
        ),
        ("reference:\n" + 2 * DOE, 'x.yaml:8: "Doe et al. 2025, Table 3" is given twice'),
        (
            "phases: [pretrain, linear_probe, knn]\nreference:\n" + DOE,
            "x.yaml:8: which evaluation? The study has linear_probe, knn: add `evaluation: lin",
        ),
    ],
)
def test_a_slip_in_a_reference_is_one_line(wrong, said, write_study, capsys):
    assert main(["plan", str(write_study(STUDY + wrong))]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1

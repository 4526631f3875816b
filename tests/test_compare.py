"""Two reports side by side: the numbers, what is said of them, and what is refused."""

import csv
import json
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from scipy import stats

from mae_ablation.cli import main

ABOUT = {
    "kind": "study",
    "title": "Masking ratio",
    "study": "mask_ratio",
    "recipe": "laptop",
    "changed": [],
    "data": "fashion_mnist",
    "image_size": 30,
    "epochs": 7,
    "phases": ["pretrain", "linear_probe"],
    "seeds": [0, 1, 2],
    "commits": ["abc"],
}
A = {"0.5": [80.0, 81.0, 80.5], "0.75": [79.0, 80.1, 79.8], "0.9": [70.0, 71.0, 72.0]}
B = {"0.5": [82.0, 83.1, 82.4], "0.75": [79.2, 79.9, 79.9], "0.9": [70.5, 70.5, 72.5]}


@pytest.fixture
def write(tmp_path):
    """Writes reports/NAME from accuracies by level, one for each seed; None: failed."""

    def make(name, levels, metric="linear_probe_acc1", baseline="0.75", first=0, more=(), **about):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps({**ABOUT, **about}))
        lines = [
            {
                "factor": "mask_ratio",
                "level": level,
                "kind": "baseline" if level == baseline else "level",
                "metric": metric,
                "seed": seed,
                "status": "finished" if value is not None else "failed",
                "value": value,
                "trial_id": f"{name} {level} {seed}",
                **dict(more),
            }
            for level, values in levels.items()
            for seed, value in enumerate(values, first)
        ]
        with (folder / "trials.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0].keys())
            writer.writeheader()
            writer.writerows(lines)
        return folder

    return make


def said(capsys, tmp_path, *words):
    status = main(["compare", *words, "--reports", str(tmp_path / "reports")])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_levels_stand_side_by_side_paired_by_seed(write, capsys, tmp_path):
    write("a", A)
    about = {"epochs": 14, "commits": ["def"], "descriptive": "This table is descriptive only."}
    write("b", B, changed=["pretrain.epochs=14"], **about)
    status, out, _ = said(capsys, tmp_path, "a", "b")
    test = stats.ttest_rel(B["0.5"], A["0.5"])
    low, high = test.confidence_interval()
    assert status == 0
    assert "| 0.5   | 80.50 ± 0.50 | 82.50 ± 0.56 | +2.00 ± 0.10 |" in out
    assert f"| [{low:+.2f}, {high:+.2f}] | {3 * test.pvalue:.3f}    |" in out
    assert "recipe: laptop (A), laptop with pretrain.epochs=14 (B)\n" in out
    assert "B: This table is descriptive only.\n" in out and "A: This" not in out
    assert "commit: abc (A), def (B)\n" in out and "same: study mask_ratio;" in out
    assert (
        "Of 3 levels tested (t, paired by seed, Holm's p at most 0.05) the mean is higher in B for "
        "0.5; 2 undecided.\n"
    ) in out


def test_losses_have_four_digits_and_a_bar_stays_in_its_cell(write, capsys, tmp_path):
    loss = {"0.75": [0.51, 0.52], "a|b": [0.61, 0.62]}
    write("a", loss, "pretrain_loss")
    write("b", {**loss, "a|b": [0.6101, 0.6203]}, "pretrain_loss")
    said(capsys, tmp_path, "a", "b", "--out", str(tmp_path / "both.md"))
    line = r"| a\|b  | 0.6150 ± 0.0071 | 0.6152 ± 0.0072 | +0.0002 ± 0.0001 | [-0.0011, +0.0015] |"
    assert line in (tmp_path / "both.md").read_text()


def test_what_is_printed_is_a_page_too(write, capsys, tmp_path):
    write("a", A), write("b", B)
    page = tmp_path / "both.md"
    _, out, _ = said(capsys, tmp_path, "a", "b", "--out", str(page))
    assert out == f"{page.read_text()}{page}\n"
    assert "| level | A            | B            | B - A        | 95 %" in out
    assert "| 0.75  | 79.63 ± 0.57 | 79.67 ± 0.40 | +0.03 ± 0.21 |" in out
    assert out.count("| baseline |") == 1


def test_levels_of_one_report_alone_are_listed(write, capsys, tmp_path):
    write("a", {**A, "0.1": [60.0, 61.0, 62.0]})
    write("b", {**B, "0.95": [50.0, 50.0, 50.0]}, baseline="0.5")
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "Only in A: 0.1.\n" in out and "Only in B: 0.95.\n" in out
    assert "baseline of A" in out and "baseline of B" in out


def test_a_level_is_the_same_at_another_scale(write, capsys, tmp_path):
    write("a", {"4 (here 3)": A["0.5"], "8 (here 4)": A["0.75"]}, baseline="8 (here 4)")
    write("b", {"4 (here 2)": B["0.5"], "8": B["0.75"]}, baseline="8")
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "4 (here 3) / 4 (here 2)" in out and "8 (here 4) / 8" in out
    assert "Only in" not in out


def test_of_different_data_the_differences_to_the_baselines_are_compared(write, capsys, tmp_path):
    write("a", A)
    write("b", {level: [v - 30 for v in values] for level, values in B.items()}, data="cifar10")
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "Different data: heights are not comparable." in out
    own = [(b - bb) - (a - aa) for b, bb, a, aa in zip(B["0.5"], B["0.75"], A["0.5"], A["0.75"],
                                                       strict=True)]  # fmt: skip
    assert f"{sum(own) / 3:+.2f} ±" in out
    assert "Of 2 levels tested" in out
    write("b", B, fingerprint="other files")
    assert "Different data" not in said(capsys, tmp_path, "a", "b")[1]  # A does not say which
    write("a", A, fingerprint="files")
    assert "Different data" in said(capsys, tmp_path, "a", "b")[1]


def test_the_same_trainings_are_no_evidence(write, capsys, tmp_path):
    write("a", A)
    _, out, _ = said(capsys, tmp_path, "a", "a")
    assert "3 of 3 levels are the same trainings in both reports.\n" in out
    assert "No level can be decided" in out and "p (Holm)" not in out


def test_seeds_that_only_one_has_are_not_paired(write, capsys, tmp_path):
    write("a", {level: values[:2] for level, values in A.items()})
    write("b", {**B, "0.9": [70.0, None, 71.0]}, seeds=[0, 1, 2])
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "70.50 ± 0.71 (n 2)" in out
    assert "Seeds without a partner, in no difference: 2 in B only.\n" in out
    assert "No level can be decided: that takes 3 common seeds, and differences.\n" in out
    write("b", B, first=5)
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "No seed in common: nothing is paired.\n" in out


def test_hours_of_another_machine_are_marked(write, capsys, tmp_path):
    machine = {"device": "a CPU", "lanes": 1, "workers": 1, "threads": 2}
    write("a", A, metric="pretrain_hours", more=machine.items())
    write("b", B, metric="pretrain_hours", more={**machine, "lanes": 2}.items())
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert "Hours were measured under different conditions" in out and "80.5000" in out


def test_reports_of_different_quantities(write, capsys, tmp_path):
    write("a", A)
    write("b", B, metric="finetune_acc1")
    page = tmp_path / "both.md"
    page.write_text("an earlier comparison")
    status, out, err = said(capsys, tmp_path, "a", "b", "--out", str(page))
    assert status == 2 and err.endswith("there is nothing to compare\n")
    assert "Only in A: Linear probe.\n" in out and "Only in B: Fine-tuning.\n" in out
    assert page.read_text() == "an earlier comparison"


def test_a_seed_that_lies_apart_takes_the_counts(write, capsys, tmp_path):
    write("a", {**A, "0.75": [79.0, 10.0, 79.8]})
    write("b", B)
    _, out, _ = said(capsys, tmp_path, "a", "b")
    assert (
        "Seeds of A lie apart (0.75: seed 1 (10.00) far off (the row's median is 79.00)): no "
        "levels are counted.\n"
    ) in out
    assert "tested" not in out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "report.json").unlink(),
            "no report.json in there; `mae-ablation report",
        ),
        (lambda f: (f / "trials.csv").unlink(), "no trials.csv in there; `mae-ablation report"),
        (lambda f: (f / "report.json").write_text("{"), "cannot read the report: "),
        (lambda f: (f / "report.json").write_text("[]"), "not the report of a study"),
        (
            lambda f: (f / "report.json").write_text('{"kind": "suite"}'),
            "not the report of a study",
        ),
        (lambda f: (f / "trials.csv").write_text("level,seed\n1,2\n"), "no column factor, kind,"),
        (
            lambda f: (f / "trials.csv").write_text(
                "factor,level,kind,metric,seed,value,trial_id\nx,1,level,m,0,high,t\n"
            ),
            "trials.csv:2: seed '0' or value 'high' is not a number",
        ),
    ],
)
def test_a_report_that_cannot_be_read_is_one_line(write, capsys, tmp_path, spoil, message):
    write("a", A)
    spoil(write("b", B))
    status, out, err = said(capsys, tmp_path, "a", "b")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "b" in err and message in err


def test_an_unknown_report_names_the_nearest(write, capsys, tmp_path):
    write("mask_ratio", A)
    status, _, err = said(capsys, tmp_path, "mask_ratio", "mask_ration")
    assert status == 2
    assert err == 'mask_ration: unknown report "mask_ration" (did you mean "mask_ratio"?)\n'


def test_a_page_that_cannot_be_written_is_one_line(write, capsys, tmp_path):
    write("a", A)
    (tmp_path / "file").write_text("")
    status, _, err = said(capsys, tmp_path, "a", "a", "--out", str(tmp_path / "file" / "x.md"))
    assert status == 2
    assert err == f"{tmp_path}/file/x.md: cannot be written: {tmp_path}/file is not a folder\n"


def test_it_is_quick_and_needs_no_training_library(write, tmp_path):
    write("a", A), write("b", B)
    code = (
        "import sys, mae_ablation.cli as c\n"
        f"assert c.main(['compare', 'a', 'b', '--reports', {str(tmp_path / 'reports')!r}]) == 0\n"
        "assert not {'torch', 'ray', 'mlflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    began = time.monotonic()
    command = [sys.executable, "-m", "platform", "compare", "none", "b"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and time.monotonic() - began < 1.5

"""Benchmark of start-up: gaps between trials, and the ratios made of them."""

import pytest

from mae_ablation.bench.orchestration import nothing, rows_of
from mae_ablation.bench.toy import gaps, note, noted, write_study


def test_a_gap_lies_between_the_end_of_a_trial_and_the_beginning_of_the_next(tmp_path):
    for begin, end in [(30.0, 31.0), (10.0, 12.0), (12.5, 29.0)]:
        note(tmp_path, begin, end)
    assert gaps(noted(tmp_path)) == [0.5, 1.0]


def test_the_stand_in_for_a_trial_takes_no_time_and_notes_itself(tmp_path):
    nothing("a trial", str(tmp_path), device="cpu", attempt=1)
    (span,) = noted(tmp_path)
    assert 0 <= span.end - span.begin < 0.01


def test_rows_compare_round_by_round():
    trainer, tune, between = rows_of((0.02, 0.05), (10.0, 10.0), (30.0, 30.0))
    assert trainer.values == pytest.approx((500, 200)) and trainer.is_met
    assert tune.values == pytest.approx((1500, 600)) and tune.is_met
    assert between.values == (0.02, 0.05) and between.is_met
    assert not rows_of((0.2,), (10.0,), (30.0,))[2].is_met


def test_a_toy_study_has_a_trial_for_every_level(tmp_path):
    from mae_ablation.api import plan_study

    path = write_study(tmp_path, "x", "pretrain.base_lr", [1.5e-4, 1e-4, 2e-4], epochs=7)
    trials = plan_study(path, store=tmp_path / "store").trials
    pretrained = [trial for trial in trials if trial.source == "pretrain"]
    assert len(pretrained) == 3
    assert {trial.recipe.pretrain.epochs for trial in pretrained} == {7}

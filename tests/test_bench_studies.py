"""Benchmark of whole studies: what is computed from measured parts, and from a finished run."""

import json
from pathlib import Path

import pytest

from mae_ablation.api import plan_studies
from mae_ablation.bench import sharing, studies
from mae_ablation.bench.studies import Parts, Run, between, scripts_s
from mae_ablation.bench.toy import write_study
from mae_ablation.study.plan import trials_of

PARTS = Parts(
    start_s=1000.0,
    pretrain_epoch_s={3: 3.0, 18: 18.0, 32: 32.0},
    probe_epoch_s={"random": 0.1, "pixels": 0.01},
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return studies.plan_of(tmp_path_factory.mktemp("place") / "store", [])


def test_a_step_between_two_measured_ones_lies_on_their_line():
    at = between({10: 1.0, 20: 3.0, 40: 4.0})
    assert [at(x) for x in (10, 15, 20, 30, 40)] == [1.0, 2.0, 3.0, 3.5, 4.0]
    assert at(5) == pytest.approx(0.0) and at(44) == pytest.approx(4.2)


def test_scripts_take_their_starts_and_epochs_one_after_the_other(plan):
    kept = [trial.recipe.kept_patches for trial in plan.trials if trial.source == "pretrain"]
    assert sorted(kept) == [3, 7, 9, 10, 14, 18, 21, 25, 28, 32]
    starts = 10 * 2 + 2  # a pre-training and a probe each, and the probes of two references
    probes = 60 * (11 * 0.1 + 0.01)
    assert scripts_s(plan, PARTS) == pytest.approx(starts * 1000 + 8 * sum(kept) + probes)


def test_a_finished_run_is_read_and_not_made_again(plan):
    for trial in plan.trials:
        for phase in trial.phases:
            folder = phase.folder(plan.store)
            folder.begin(phase.document)
            folder.finish({"lanes": 2, "seconds": 5.0})
    place = Path(plan.store.root)
    (place.parent / studies.WALL).write_text(json.dumps({"seconds": 60.0}))
    run = studies.run_of(place, [])
    assert (run.wall_s, run.lanes, len(run.training_s)) == (60.0, 2, 22)
    assert run.efficiency().values == pytest.approx((22 * 5 / 120,))


def test_a_run_that_was_broken_off_is_not_gone_on_with_as_a_cold_start(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(RuntimeError, match="does not say its seconds"):
        studies.run_of(tmp_path / "store", [])


def test_a_cold_start_is_compared_with_every_round_of_the_scripts(plan, monkeypatch):
    monkeypatch.setattr(studies, "parts", lambda workers, changes: PARTS)
    monkeypatch.setattr(studies, "fastest", lambda phase, changes: 2)
    run = Run(wall_s=scripts_s(plan, PARTS) / 4, lanes=2, training_s=(1.0,), plan=plan)
    row = run.cold_start(2, [])
    assert row.values == pytest.approx((4.0, 4.0)) and row.is_met


def test_time_saved_is_compared_with_trials_saved():
    def agreement(together_s):
        return sharing.agreement(apart_s=90, together_s=together_s, apart=9, shared=7)

    assert agreement(70) == pytest.approx(1.0)
    assert agreement(90) == pytest.approx(7 / 9)  # nothing saved


def test_the_studies_that_measure_sharing_have_their_baseline_in_common(tmp_path):
    written = [write_study(tmp_path, name, *sharing.FACTORS[name]) for name in sharing.FACTORS]
    plans = plan_studies(written, store=tmp_path / "store")

    def pretrained(trials):
        return sum(trial.source == "pretrain" for trial in trials)

    assert [pretrained(plan.trials) for plan in plans] == [3, 3, 3]
    assert pretrained(trials_of(plans)) == 7


def test_the_paper_is_planned_with_sharing_and_without():
    apart, shared = sharing.paper_trials()
    assert apart > 1.4 * shared > 0

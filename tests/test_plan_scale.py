"""Planning, reading and telling grow with the study, not with its square: counted, not timed."""

import sys

import pytest
from bench.scale import recorded, write_study

from mae_ablation.api import plan_study
from mae_ablation.report.results import results_frame
from mae_ablation.report.spread import ROWS_READ, SEEDS_READ
from mae_ablation.report.summary import describe_plans, trial_lines
from mae_ablation.report.table import table_frame
from mae_ablation.store.files import LocalFiles
from mae_ablation.study.study import load_study


@pytest.fixture
def study_of(tmp_path):
    """A study of so many trials, in a folder of its own, half of them recorded."""

    def make(trials):
        place = tmp_path / str(trials)
        place.mkdir()
        plan = plan_study(write_study(place, trials), store=place / "store")
        for trial in plan.trials[::2]:
            recorded(trial, place / "store")
        return place

    return make


def plan_in(place):
    return plan_study(place / "studies" / "scale.yaml", store=place / "store")


def told(place):
    plan = plan_in(place)
    describe_plans([], [plan], 2)
    return plan


def calls(action, *arguments):
    """Functions called, Python's and built-in ones."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        action(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_twice_the_trials_are_twice_the_work(study_of):
    one, two = study_of(300), study_of(600)
    for action in (told, lambda place: trial_lines(plan_in(place))):
        action(one)  # imports and caches
        ratio = calls(action, two) / calls(action, one)
        assert 1.7 < ratio < 2.1  # a little is done once, however many trials there are


def test_levels_are_read_in_one_go(tmp_path):
    files = []
    for levels in (300, 600):
        (tmp_path / str(levels)).mkdir()
        files.append(write_study(tmp_path / str(levels), 10 * levels))
    load_study(files[0])
    ratio = calls(load_study, files[1]) / calls(load_study, files[0])
    assert 1.9 < ratio < 2.1


@pytest.fixture
def asked(monkeypatch):
    """How often the store's files were asked, by kind of question."""
    count = {}
    for name in ("exists", "read", "names", "stamp"):
        real = getattr(LocalFiles, name)

        def counted(files, path, name=name, real=real):
            count[name] = count.get(name, 0) + 1
            return real(files, path)

        monkeypatch.setattr(LocalFiles, name, counted)
    return count


def test_a_plan_asks_the_store_a_bounded_number_of_times_per_phase(study_of, asked):
    for trials in (300, 600):
        place = study_of(trials)
        asked.clear()
        plan = told(place)
        phases = sum(len(trial.phases) for trial in plan.trials)
        few = 2 * (ROWS_READ + 1) * SEEDS_READ  # for the seeds that a point takes
        assert asked["exists"] <= 4 * phases + 2 * few  # two looks: folder and result
        assert asked["read"] <= phases / 2 + 1 + few  # the finished ones, for the estimate
        assert asked["names"] <= 6


def test_a_report_reads_each_result_once(study_of, asked):
    place = study_of(300)
    plan = plan_in(place)
    asked.clear()
    table_frame(plan, results_frame(plan))
    phases = sum(len(trial.phases) for trial in plan.trials)
    assert phases == 580
    failures = 290  # looked for where a phase has no result
    assert asked["read"] <= phases + failures

"""Tuned values: every level searches the same ones, chosen on validation, never on test."""

import os
import signal

import pandas as pd
import pytest
from conftest import write_place
from processes import finish, start, wait_for

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.report.html import tabulate_cost
from mae_ablation.report.method import describe_protocol
from mae_ablation.report.readings import Readings, finished_results
from mae_ablation.report.results import results_frame
from mae_ablation.report.summary import describe_plans
from mae_ablation.report.table import table_frame
from mae_ablation.run.queue import DROPPED, WAIT, Outcome, TrialQueue
from mae_ablation.run.run_state import RunState
from mae_ablation.study.plan import missing, trials_of
from mae_ablation.study.work import work_of

STUDY = """\
recipe: toy
factors:
  mask_ratio: [0.5, 0.75]
tune:
  linear_probe.base_lr: [0.05, 0.1, 0.2]
seeds: 2
phases: [pretrain, linear_probe]
"""
VALIDATION = {0.05: [50.0, 70.0], 0.1: [62.0, 62.0], 0.2: [61.0, 60.0]}
TEST = {0.05: [90.0, 90.0], 0.1: [40.0, 42.0], 0.2: [99.0, 99.0]}


def record(plan, phase, seed):
    folder = phase.folder(plan.store)
    folder.begin(phase.document)
    numbers = {"train_loss": 0.5, "seconds": 1.0, "commit": "abc", "epochs": 2}
    if phase.kind != "pretrain":
        rate = phase.recipe.linear_probe.base_lr
        numbers |= {"test_acc1": TEST[rate][seed], "validation_acc1": VALIDATION[rate][seed]}
    folder.finish(numbers)


def finish_all(plan, but=lambda phase, seed: False):
    for trial in plan.trials:
        for phase in trial.phases:
            if not but(phase, trial.seed):
                record(plan, phase, trial.seed)


def finish_all_kinds(plan):
    """As if whatever is tuned made no difference."""
    for trial in plan.trials:
        for phase in trial.phases:
            numbers = {"test_acc1": 50.0, "validation_acc1": 50.0, "train_loss": 0.5}
            phase.folder(plan.store).finish({**numbers, "seconds": 1.0, "commit": "abc"})


# the plan ---------------------------------------------------------------------------------------


def test_every_level_searches_the_same_values_and_shares_its_pre_training(planned):
    plan = planned()
    values = [(("base_lr", rate),) for rate in (0.05, 0.1, 0.2)]
    assert all([each.values for each in row.tries] == values for row in plan.rows)
    assert [row.label for row in plan.references] == ["random encoder", "raw pixels"]
    assert all([each.values for each in row.tries] == values for row in plan.references)
    pretrained = [t for t in plan.trials if t.source == "pretrain"]
    assert len(pretrained) == 2 * 2
    kinds = ["pretrain", *["linear_probe"] * 3]
    assert all([phase.kind for phase in t.phases] == kinds for t in pretrained)
    assert len(plan.cells) == (2 + 2) * 2 * 3
    said = describe_plans([], [plan], 2)
    assert "tune: base_lr 0.05, 0.1, 0.2: 3 tries of each level, chosen on validation" in said
    assert "trials: (2 levels + 2 references) x 2 seeds x 3 tries - 8 shared = 16" in said
    assert len({t.name for t in plan.cells}) == len(plan.cells)


def test_a_try_is_the_same_phase_as_without_a_search(planned):
    tuned = planned()
    plain = planned(STUDY.replace("tune:\n  linear_probe.base_lr: [0.05, 0.1, 0.2]\n", ""))
    assert {t.result_id for t in plain.cells} < {t.result_id for t in tuned.cells}


def test_a_field_that_does_not_concern_a_row_is_not_searched_there(planned):
    plan = planned(STUDY.replace("linear_probe.base_lr", "pretrain.base_lr"))
    assert all(len({each.id for each in row.tries}) == 3 for row in plan.rows)
    assert all(len({each.id for each in row.tries}) == 1 for row in plan.references)
    (random,) = {plan.tuned(trial) for trial in plan.references[0].every_trial}
    assert random == ()
    assert {t.needs for t in work_of([plan], plan.missing(), plan.store).trials} == {None}


def test_several_fields_are_a_product(planned):
    more = "  linear_probe.weight_decay: [0, 1e-4]\n"
    tuned = "[0.05, 0.1, 0.2]\n"
    product = planned(STUDY.replace(tuned, tuned + more))
    assert [dict(each.values) for each in product.rows[0].tries][:2] == [
        {"base_lr": 0.05, "weight_decay": 0.0},
        {"base_lr": 0.05, "weight_decay": 1e-4},
    ]
    tries = [[each.values for each in row.tries] for row in (*product.rows, *product.references)]
    assert len(tries[0]) == 6 and all(each == tries[0] for each in tries)
    assert "x 6 tries" in describe_plans([], [product], 2)


BAD = [
    ("tune: {linear_probe.base_lr: 0.1}", "needs a list of values, such as [0.1, 0.2]"),
    ("tune: {scheduler: asha}", "x.yaml:4: tune needs a field and its values"),
    ("tune: {linear_probe.bas_lr: [1]}", 'x.yaml:4: unknown tuned field "linear_probe.bas_lr"'),
    ("tune: {finetune.base_lr: [0.1]}", "x.yaml:4: finetune.base_lr is in no phase of the study"),
    ("tune: {mask_ratio: [0.1]}", "x.yaml:4: pretrain.mask_ratio is tuned, and so is not a factor"),
    ("tune: {linear_probe.base_lr: [a]}", "x.yaml:4: linear_probe.base_lr must be a number, not"),
    (
        "tune: {linear_probe.base_lr: [1, 1]}",
        "x.yaml:4: value 1 of linear_probe.base_lr is given",
    ),
    ("tune: {linear_probe.base_lr: [0, 1]}", "x.yaml:4: base_lr is 0.0, must be above 0"),
    ("tune: {linear_probe.base_lr: [1]}", "x.yaml:4: tune needs two combinations or more"),
    (
        "tune: {linear_probe.base_lr: [1, 2], scheduler: ahsa}",
        'x.yaml:4: unknown scheduler "ahsa" (did you mean "asha"?)',
    ),
    (
        "tune: {pretrain.base_lr: [1, 2], scheduler: asha}",
        "x.yaml:4: asha stops by the validation accuracy after an epoch: it tunes fields of one",
    ),
    (
        "tune: {pretrain.base_lr: [1, 2]}\nmeasure: hours",
        "x.yaml:4: tune chooses by validation accuracy",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_what_cannot_be_is_one_line(planned, text, message):
    with pytest.raises(UserError) as error:
        planned(f"recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n{text}\n")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_tuned_is_not_set_by_hand(write_study, tmp_path):
    with pytest.raises(UserError, match=r"--set .*: the study tunes linear_probe.base_lr"):
        plan_study(write_study(STUDY), store=tmp_path, changes=["linear_probe.base_lr=0.3"])


def test_fields_of_a_phase_that_the_recipe_leaves_out_are_not_searched(write_study, tmp_path):
    from conftest import TOY_RECIPE

    more = "phases: [pretrain, linear_probe, finetune]\n"
    text = STUDY.replace("phases: [pretrain, linear_probe]\n", more)
    text = text.replace("seeds:", "  finetune.base_lr: [1e-3, 2e-3]\nseeds:")
    plan = plan_study(write_study(text, TOY_RECIPE + "skip: [finetune]\n"), store=tmp_path)
    assert plan.study.tries == 3


# the choice -------------------------------------------------------------------------------------


def test_the_best_on_validation_over_all_seeds_is_shown_with_its_test_accuracy(planned):
    """0.2 has the best test accuracy, 0.05 the best single seed: neither counts."""
    plan = planned()
    finish_all(plan)
    results = results_frame(plan)
    assert list(results["status"].unique()) == ["finished"] and len(results) == 4 * 2
    assert list(results["value"]) == TEST[0.1] * 4
    assert set(results["chosen"]) == {"base_lr=0.1, 3 tries"}
    assert set(results["tuned"]) == {"base_lr 0.1 (tuned, 3 tries each)"}
    table = table_frame(plan, results)
    assert table.columns[-1] == "tuned" and table["mean"].tolist() == [41.0] * 4
    chosen = plan.rows[0].tries[1].trials[0].phases[-1].identity
    assert results["trial_id"].iloc[0] == chosen


def test_equals_are_the_earlier_one(planned, monkeypatch):
    monkeypatch.setitem(VALIDATION, 0.2, [62.0, 62.0])
    plan = planned()
    finish_all(plan)
    assert set(results_frame(plan)["chosen"]) == {"base_lr=0.1, 3 tries"}


def test_an_unfinished_search_chooses_nothing(planned):
    """One seed of the worst try is missing at one level."""
    plan = planned()
    lacking = plan.rows[0].tries[2].trials[1].phases[-1]
    finish_all(plan, but=lambda phase, seed: phase.identity == lacking.identity)
    results = results_frame(plan)
    level = results[results["level"] == "0.5"]
    assert list(level["status"]) == ["missing", "missing"] and level["value"].isna().all()
    assert set(level["reason"]) == {"search not finished"} and level["chosen"].isna().all()
    assert set(results[results["level"] != "0.5"]["status"]) == {"finished"}
    line = table_frame(plan, results).set_index("level").loc["0.5"]
    assert pd.isna(line["mean"]) and line["tuned"] == "search not finished (3 tries each)"
    lacking.folder(plan.store).begin(lacking.document)
    lacking.folder(plan.store).fail("linear_probe: Diverged: loss is nan", "")
    note = table_frame(plan, results_frame(plan)).set_index("level").loc["0.5", "note"]
    assert note.endswith(
        "0 of 2 seeds; search not finished: mask_ratio=0.5 seed 1, base_lr 0.2: "
        "linear_probe: Diverged: loss is nan"
    )


def test_each_evaluation_is_chosen_for_itself(planned):
    plan = planned(STUDY.replace("linear_probe]", "linear_probe, knn]"))
    knn = {trial.phases[-1].identity for trial in plan.rows[0].every_trial}
    assert len(knn) == 2, "the probe's learning rate is nothing to k-NN"
    finish_all(plan, but=lambda phase, seed: phase.kind == "knn")
    for trial in plan.trials:
        for phase in trial.phases:
            if phase.kind == "knn":
                phase.folder(plan.store).begin(phase.document)
                numbers = {"validation_acc1": 30.0, "seconds": 1.0, "commit": "abc"}
                phase.folder(plan.store).finish({"test_acc1": 31.0, **numbers})
    table = table_frame(plan, results_frame(plan)).set_index(["metric", "level"])
    assert table.loc[("knn_acc1", "0.5"), ["mean", "tuned"]].tolist() == [31.0, ""]
    assert table.loc[("linear_probe_acc1", "0.5"), "mean"] == 41.0


def test_what_the_search_stopped_is_told_and_not_chosen(planned):
    plan = planned(STUDY.replace("seeds:", "  scheduler: asha\nseeds:"))
    stop = plan.rows[0].tries[1]
    mine = [trial.phases[-1] for trial in stop.trials.values()]
    assert all(phase.search for phase in mine) and not stop.some.phases[0].search
    finish_all(plan, but=lambda phase, seed: phase.identity in {p.identity for p in mine})
    assert len(plan.missing()) == 2
    for phase in mine:
        why = {"search": phase.search, "epoch": 1, "reason": "stopped early"}
        phase.folder(plan.store).stop(phase.document, why)
    assert plan.missing() == [], "it is not tried again"
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert table.loc["0.5", "tuned"] == (
        "base_lr 0.2 (tuned, 3 tries each, 1 stopped early; at the edge: base_lr 0.2 is the "
        "highest tried)"
    )
    assert table.loc["0.75", "tuned"] == "base_lr 0.1 (tuned, 3 tries each)"
    other = planned(STUDY.replace("0.2]", "0.3]").replace("seeds:", "  scheduler: asha\nseeds:"))
    assert mine[0].identity in {p.identity for t in other.missing() for p in t.phases}
    for phase in mine:
        record(plan, phase, phase.document["seed"])
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert table.loc["0.5", "tuned"] == "base_lr 0.1 (tuned, 3 tries each)", "someone finished it"


def test_a_page_names_no_settings_that_only_some_rows_have(planned):
    told = "(settings of the baseline, but for what is varied or tuned)"
    probe, knn = (f"{name}_acc1" for name in ("linear_probe", "knn"))
    plan = planned(STUDY.replace("linear_probe]", "linear_probe, knn]"))
    assert told in describe_protocol(plan, probe) and told not in describe_protocol(plan, knn)
    named = "recipe: toy\nfactors:\n  how:\n    usual: {}\n"
    plan = planned(named + "    long: {linear_probe.epochs: 5}\nphases: [linear_probe, knn]\n")
    assert told in describe_protocol(plan, probe) and told not in describe_protocol(plan, knn)
    other = "    other: {linear_probe.pooling: mean}\nphases: [linear_probe, knn]\n"
    plan = planned(named + other)
    assert told in describe_protocol(plan, probe) and told in describe_protocol(plan, knn)


def test_every_try_is_in_the_cost_of_a_study(planned):
    plan = planned(STUDY.replace("linear_probe]", "linear_probe, knn]"))
    finish_all_kinds(plan)
    readings = Readings(plan.store)
    spent = tabulate_cost(plan, readings)
    assert spent["kinds"] == ["pretrain", "linear_probe", "knn"]
    assert spent["trials"][0]["seconds"] == ["1.0", "3.0", "1.0"]
    assert spent["sums"] == ["4.0", "24.0", "8.0"]  # k-NN is no try's own: once each
    assert sum(map(float, spent["sums"])) == sum(
        r["seconds"] for r in finished_results(plan, readings)
    )


def test_a_row_shows_the_pre_training_that_was_chosen(planned):
    text = STUDY.replace("linear_probe.base_lr: [0.05, 0.1, 0.2]", "pretrain.epochs: [2, 4]")
    plan = planned(text)
    columns = ["epochs", "flops", "training", "kept_patches"]

    def half():
        return table_frame(plan, results_frame(plan)).set_index("level").loc["0.5"]

    assert half()[["epochs", "training"]].isna().all() and half()["kept_patches"] == 18
    best = {"0.5": 4, "0.75": 2, "random encoder": 2, "raw pixels": 2}  # epochs
    for row in (*plan.rows, *plan.references):
        for trial in row.every_trial:
            for phase in trial.phases:
                accuracy = 60.0 + (trial.recipe.pretrain.epochs == best[row.label])
                result = {"test_acc1": accuracy, "validation_acc1": accuracy, "train_loss": 0.5}
                phase.folder(plan.store).finish({**result, "seconds": 1.0, "commit": "abc"})
    epochs, flops, training, _ = half()[columns]
    assert (epochs, training) == (4, pytest.approx(2 * flops))


def test_mlflow_is_told_what_is_tuned(planned):
    from mae_ablation.tracking.description import make_params, run_name

    plan = planned()
    each = plan.rows[0].tries[2].trials[1]
    params = {param.key: param.value for param in make_params(plan, each)}
    assert params["base_lr"] == "0.2" and params["mask_ratio"] == "0.5"
    assert run_name(each) == "0.5 · s1, base_lr 0.2"


# the work ---------------------------------------------------------------------------------------


def test_pre_trainings_come_first_and_tries_wait_for_the_search(planned):
    plan = planned()
    work = work_of([plan], plan.missing(), plan.store)
    assert [len(t.phases) for t in work.trials] == [1] * (4 + 24)
    assert [t.phases[0].kind for t in work.trials[:5]] == ["pretrain"] * 4 + ["linear_probe"]
    assert work.held == frozenset(range(4, 28)) and len(work.searched) == 4 * 3
    one = work.searched[0]
    assert one.name == "mask_ratio=0.5 seed 0, base_lr 0.05"
    names = [work.trials[n].label for n in (*one.first, *one.rest)]
    assert names == [one.name, "mask_ratio=0.5 seed 1, base_lr 0.05"]
    assert work.trials[one.first[0]].needs.id == plan.rows[0].trials[0].id
    record(plan, plan.rows[0].trials[0].phases[0], 0)
    assert len(work_of([plan], plan.missing(), plan.store).trials) == 27


def test_finished_tries_are_told_to_the_search_and_not_run(planned):
    plan = planned()
    lacking = plan.rows[0].tries[2].trials[1].phases[-1]
    finish_all(plan, but=lambda phase, seed: phase.identity == lacking.identity)
    work = work_of([plan], plan.missing(), plan.store)
    assert [t.result_id for t in work.trials] == [(lacking.identity,)]
    assert [(each.first, each.rest) for each in work.searched] == [((), ()), ((), ()), ((), (0,))]


def test_what_another_study_wants_is_not_held(planned, write_study, tmp_path):
    tuned = planned()
    plain = planned(STUDY.replace("tune:\n  linear_probe.base_lr: [0.05, 0.1, 0.2]\n", ""))
    work = work_of([tuned, plain], trials_of([tuned, plain]), tuned.store)
    free = {t.label for n, t in enumerate(work.trials) if n not in work.held}
    assert "mask_ratio=0.5 seed 0" in "; ".join(sorted(free))
    assert len(work.held) == 24 - 8


def test_without_a_search_trials_are_handed_out_as_they_are(planned):
    plan = planned(STUDY.replace("tune:\n  linear_probe.base_lr: [0.05, 0.1, 0.2]\n", ""))
    todo = plan.missing()
    assert work_of([plan], todo, plan.store).trials == todo


# the queue --------------------------------------------------------------------------------------


def queue_of(plan):
    work = work_of([plan], plan.missing(), plan.store)
    queue = TrialQueue()
    queue.restore(work.trials, {}, {}, work.held)
    return queue, work


def test_lanes_get_a_try_when_the_search_asks_and_its_pre_training_is_there(planned):
    queue, work = queue_of(planned())
    first = [queue.next(f"0.{n}") for n in range(5)]
    assert [task.number for task in first[:4]] == [0, 1, 2, 3] and first[4] == WAIT
    one = work.searched[0]
    assert not queue.follow(one.first)
    assert queue.next("0.9") == WAIT, "not before its pre-training is finished"
    owner = next(task for task in first[:4] if task.trial.id == work.trials[one.first[0]].needs.id)
    task = queue.next(f"0.{owner.number}", Outcome(owner.number))
    assert task.number == one.first[0] and queue.next("0.9") == WAIT
    assert queue.next("0.9", Outcome(task.number)) == WAIT
    assert queue.follow(one.first)


def test_a_try_that_is_dropped_ends_without_a_failure(planned):
    queue, work = queue_of(planned())
    for n in range(4):
        queue.next(f"0.{n}")
        queue.next(f"0.{n}", Outcome(n))
    one = work.searched[0]
    queue.follow(one.first)
    task = queue.next("1.1")
    queue.drop([*one.first, *one.rest])
    assert queue.beat("1.1", task.number, {}), "the lane is told to stop"
    assert queue.next("1.1", Outcome(task.number, put_back="stopped")) == WAIT
    state = RunState(trials=work.trials)
    state.take(queue.snapshot())
    assert sorted(state.dropped) == sorted([*one.first, *one.rest]) and not state.failed
    assert state.ended[task.number] == DROPPED


def test_a_queue_that_is_killed_holds_again_what_is_held(planned):
    queue, work = queue_of(planned())
    again = TrialQueue()
    assert not again.follow([5])
    again.drop([5])
    again.restore(work.trials, {0: None, 1: None, 2: None, 3: None}, {}, work.held)
    assert dict(again.snapshot().ended)[5] == DROPPED
    assert again.next("0.1") == WAIT
    again.follow([6])
    assert again.next("0.1").number == 6


# Ray Tune ---------------------------------------------------------------------------------------


ASHA = STUDY.replace("tune:\n", "tune:\n  scheduler: asha\n")


def test_the_last_try_of_a_row_is_never_stopped(planned):
    """A search that is begun again hears of the tries in another order."""
    from mae_ablation.run.search import StopTry

    class Queue:
        class drop:
            remote = staticmethod(lambda numbers: None)

    plan = planned(ASHA)
    work = work_of([plan], plan.missing(), plan.store)
    stop = StopTry(work.searched, Queue, plan.store.root)
    mine = [n for n, each in enumerate(work.searched) if each.row == work.searched[0].row]
    assert [stop(number, 1) for number in mine] == [True, True, False]


def test_a_study_that_stops_nothing_has_its_tries_run_to_the_end(planned):
    one, other = planned(ASHA), planned(STUDY)
    for plans in ([one, other], [other, one]):
        work = work_of(plans, missing(trials_of(plans), one.store), one.store)
        assert work.searched and not any(each.may_be_stopped for each in work.searched)


def test_asha_stops_the_worst_of_a_row_and_never_at_the_last_epoch():
    from mae_ablation.run.search import asha
    from mae_ablation.train.evaluations.linear_probe import LinearProbe

    class Trial:
        def __init__(self, name):
            self.trial_id = name

    scheduler = asha(LinearProbe().epochs)
    tries = {name: Trial(name) for name in "abc"}
    for trial in tries.values():
        scheduler.on_trial_add(None, trial)
    said = {}
    for epoch in range(1, 91):
        for name, accuracy in (("a", 70.0), ("b", 30.0), ("c", 50.0)):
            if said.get(name) != "STOP":
                result = {"epoch": epoch, "validation_acc1": accuracy}
                said[name] = scheduler.on_trial_result(None, tries[name], result)
                assert said[name] != "STOP" or epoch == 10
    assert said == {"a": "CONTINUE", "b": "STOP", "c": "STOP"}


@pytest.mark.slow
@pytest.mark.rare
def test_a_search_that_is_killed_goes_on(tmp_path):
    path = write_place(tmp_path, STUDY, epochs=2)
    driver = start(tmp_path, "--lanes", "2")
    wait_for(lambda: len(list(tmp_path.glob("store/linear_probe/*/result.json"))) >= 4, "tries")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("store/*/*/result.json")}
    assert len(before) < 4 + 24
    said = finish(start(tmp_path, "--lanes", "2"), tmp_path)
    assert "16 of 16 trials finished" in said and "the search ended" not in said
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("store/*/*/result.json")}
    assert len(after) == 4 + 24 and before.items() <= after.items(), "no try is run again"
    plan = plan_study(path, store=tmp_path / "store")
    results = results_frame(plan)
    for row in (*plan.rows, *plan.references):
        scores = {each.values[0][1]: scores_of(plan, each) for each in row.tries}
        best = max(scores, key=lambda rate: scores[rate][0])
        mine = results[results["level"] == row.label]
        assert set(mine["chosen"]) == {f"base_lr={best}, 3 tries"}
        assert list(mine["value"]) == scores[best][1]


def scores_of(plan, each):
    found = [t.phases[-1].folder(plan.store).result() for t in each.trials.values()]
    validation = sum(result["validation_acc1"] for result in found) / len(found)
    return validation, [result["test_acc1"] for result in found]

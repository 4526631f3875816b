"""Seeds until rows are decided: looks, stragglers, drivers that are killed, budgets."""

import json
from types import SimpleNamespace

import pytest

from mae_ablation.api import plan_studies
from mae_ablation.errors import UserError
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.outcome import count_asked, list_open_trials, looks_lines
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.standing import Asking, find_standing
from mae_ablation.report.summary import trial_lines
from mae_ablation.report.table import table_frame
from mae_ablation.run import driver as run_module
from mae_ablation.run import stopping
from mae_ablation.run.queue import WAIT, Outcome, TrialQueue
from mae_ablation.run.run_state import RunState
from mae_ablation.run.seed_gate import SeedGate
from mae_ablation.run.stopping import TimeLimit
from mae_ablation.study.declared import declare_plan
from mae_ablation.study.request import Selection
from mae_ablation.study.suite import load_all

STUDY = """\
recipe: toy
baseline: {mask_ratio: 0.75}
factors:
  mask_ratio: [0.25, 0.5, 0.75]
seeds: {first: 3, most: 8}
margin: 0.5
phases: [pretrain, linear_probe]
"""
NOISE = (0.0, 0.3, -0.2, 0.1, -0.1, 0.2, -0.3, 0.05)
"""points, by seed, of every row, and so of no difference"""

WOBBLE = (0.9, -1.1, 1.4, -1.3, 0.8, -0.7, 1.2, -1.0)
"""points, by seed, of a row that no look decides"""

CLEAR = {"0.25": 60.0, "0.5": 80.0, "0.75": 80.0, "random encoder": 40.0, "raw pixels": 50.0}
"""0.25 and the references differ by far; 0.5 is the baseline with a wobble"""


def accuracy(label, seed, means=CLEAR):
    own = WOBBLE[seed] if label == "0.5" else 0.01 * seed * (label != "0.75")
    return means[label] + NOISE[seed] + own


def label_of(trial):
    return trial.label.rpartition(" seed ")[0].removeprefix("mask_ratio=")


class Remote:
    """A queue whose methods are called as an actor's are."""

    def __init__(self, queue):
        self.queue = queue

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.queue, name))


class Driver:
    """The driver of a run, with lanes that finish a trial when they are told to."""

    def __init__(self, plan, lanes=2, fails=lambda trial: False):
        self.plan, self.fails, self.said = plan, fails, []
        self.trials, ask = list_open_trials([plan])
        self.looks = SeedGate(self.trials, ask)
        self.state = RunState(trials=self.trials)
        self.queue = TrialQueue()
        self.tasks = {f"{n}.1": None for n in range(lanes)}
        self.ran = []
        self.look()

    def look(self):
        """As `cluster.run.watch` does twice a second."""
        if not self.state.take(self.queue.snapshot(self.state.since)):
            self.queue.restore(self.trials, self.state.ended, {}, self.looks.held)
            self.state.take(self.queue.snapshot(self.state.since))
        self.looks.follow(Remote(self.queue), self.state, self.said.append)
        self.state.take(self.queue.snapshot(self.state.since))

    def start(self, lane):
        """Give a lane that has nothing to do its next trial; returns it, None if it has to wait."""
        task = self.queue.next(lane)
        self.tasks[lane] = None if task in (WAIT, None) else task
        return self.tasks[lane] and self.tasks[lane].trial

    def finish(self, lane):
        """Finish a lane's trial, or leave it where it is not wanted any more."""
        task, self.tasks[lane] = self.tasks[lane], None
        if self.queue.beat(lane, task.number, {}):
            self.queue.take_back(lane, Outcome(task.number, put_back="stopped"))
        elif self.fails(task.trial):
            self.queue.take_back(lane, Outcome(task.number, "loss is nan"))
        else:
            self.ran.append(task.trial.label)
            for phase in task.trial.phases:
                value = accuracy(label_of(task.trial), task.trial.seed)
                numbers = {"train_loss": 0.5, "seconds": 1.0, "commit": "abc"}
                folder = phase.folder(self.plan.store)
                folder.begin(phase.document)
                folder.finish({"test_acc1": value, "validation_acc1": value, **numbers})
            self.queue.take_back(lane, Outcome(task.number))
        self.look()

    def run(self, trials=None):
        """Until all is over, or so many trials are done."""
        while not self.state.is_over and (trials is None or len(self.ran) < trials):
            for lane in self.tasks:
                if self.tasks[lane] or self.start(lane):
                    self.finish(lane)
            if not any(self.tasks.values()):
                self.look()

    def seeds(self, label):
        """How many seeds of a row were run."""
        return sum(each.rpartition(" seed ")[0].endswith(label) for each in self.ran)


# looks ------------------------------------------------------------------------------------------


def test_rows_that_are_decided_get_no_more_seeds(planned):
    """One lane: nothing is begun before the look that decides it."""
    driver = Driver(planned(), lanes=1)
    driver.run()
    counts = {label: driver.seeds(label) for label in CLEAR}
    assert counts == {"0.25": 3, "0.5": 8, "0.75": 8, "random encoder": 3, "raw pixels": 3}
    assert driver.said == [
        "x: look 1 at 3 seeds: 3 of 4 rows decided; 1 go on to 5 seeds",
        "x: look 2 at 5 seeds: 3 of 4 rows decided; 1 go on to 8 seeds",
        "x: look 3 at 8 seeds: 3 of 4 rows decided; 1 stay undecided at the most seeds",
    ]
    assert looks_lines([driver.plan]) == [
        "x linear_probe: different: 0.25 (3 seeds), random encoder (3 seeds), raw pixels (3 "
        "seeds); not decided: 0.5 (8 seeds)"
    ]
    assert count_asked([driver.plan]) == (3 * 3 + 2 * 8, 0)


def test_seed_0_of_every_row_comes_first(planned):
    driver = Driver(planned(), lanes=1)
    driver.run(trials=10)
    seeds = [int(label[-1]) for label in driver.ran]
    assert seeds == [0] * 5 + [1] * 5


def test_a_study_whose_rows_are_all_decided_stops_there(planned, monkeypatch):
    monkeypatch.setattr("test_until_decided.WOBBLE", (5.0, 5.01, 5.02, 5, 5, 5, 5, 5))
    driver = Driver(planned(), lanes=2)
    driver.run()
    assert len(driver.ran) == 5 * 3
    assert driver.said == ["x: look 1 at 3 seeds: 4 of 4 rows decided"]
    assert list_open_trials([driver.plan])[0] == [], "the same command has nothing to do"


def test_no_lane_waits_for_a_straggler(planned):
    """Meanwhile the other rows go on, and its own next seeds are run ahead; they do not count."""
    driver = Driver(planned(), lanes=2)
    driver.run(trials=10)
    straggler = driver.start("1.1")
    assert (label_of(straggler), straggler.seed) == ("0.25", 2)
    while driver.start("0.1"):
        driver.finish("0.1")
    counts = {label: driver.seeds(label) for label in CLEAR}
    assert counts == {"0.25": 4, "0.5": 8, "0.75": 8, "random encoder": 3, "raw pixels": 3}
    assert driver.said == [], "no look is complete for all"
    assert len(find_standing(driver.plan).decided) == 2, "but for the references it is"
    driver.finish("1.1")
    assert driver.said == [
        "x: look 3 at 8 seeds: 3 of 4 rows decided; 1 stay undecided at the most seeds"
    ]
    late = find_standing(driver.plan).rows[0].decisions["linear_probe"]
    assert (late.state, late.seeds) == ("different", 3)
    assert driver.state.is_over


def test_a_seed_begun_ahead_of_its_look_is_left_when_its_row_is_decided(planned):
    driver = Driver(planned(), lanes=2)
    driver.run(trials=10)
    last = driver.start("0.1")
    while driver.start("1.1").seed < 3:
        driver.finish("1.1")
    ahead = driver.tasks["1.1"].trial
    assert label_of(last) == label_of(ahead) == "0.25" and (last.seed, ahead.seed) == (2, 3)
    driver.finish("0.1")
    driver.finish("1.1")
    assert driver.seeds("0.25") == 3 and not driver.state.failed
    assert "mask_ratio=0.25 seed 3" not in driver.ran


def test_a_row_whose_trial_failed_goes_no_further_and_the_others_do(planned):
    def fails(trial):
        return trial.seed == 1 and label_of(trial) == "0.5"

    driver = Driver(planned(), lanes=1, fails=fails)
    driver.run()
    assert driver.state.is_over and len(driver.state.failed) == 1
    assert driver.seeds("0.5") == 2 and driver.seeds("0.75") == 3
    assert driver.said[-1] == (
        "x: look 1 at 3 seeds: 3 of 4 rows decided; 1 cannot go on, as a trial failed"
    )
    (failed,) = [t for t in driver.plan.trials if fails(t)]
    failed.phases[0].folder(driver.plan.store).fail("pretrain: Diverged: loss is nan", "")
    assert count_asked([driver.plan]) == (5 * 3, 1), "the same command tries it again"


def test_a_driver_that_is_killed_goes_on_where_the_store_is(planned):
    whole = Driver(planned(STUDY), lanes=1)
    whole.run(trials=18)
    again = Driver(planned(STUDY), lanes=1)
    assert again.said == ["x: look 1 at 3 seeds: 3 of 4 rows decided; 1 go on to 5 seeds"]
    again.run()
    ran = whole.ran + again.ran
    assert len(ran) == len(set(ran)) == 3 * 3 + 2 * 8, "nothing twice, nothing too many"


def test_a_queue_that_is_killed_holds_and_leaves_the_same_trials(planned):
    driver = Driver(planned(), lanes=1)
    driver.run(trials=16)
    driver.queue = TrialQueue()
    driver.look()
    driver.run()
    assert len(driver.ran) == len(set(driver.ran)) == 3 * 3 + 2 * 8


def test_a_study_of_fixed_seeds_beside_it_gets_all_of_them(planned, write_study, tmp_path):
    growing = planned()
    fixed = planned(STUDY.replace("{first: 3, most: 8}", "4"))
    asked = Asking([growing, fixed])()
    assert {i for t in fixed.cells for i in t.result_id} <= asked.now
    both, _ = list_open_trials([growing, fixed])
    assert len(both) == 5 * 8 and [t.seed for t in both[:6]] == [0] * 5 + [1]


# what is shown ----------------------------------------------------------------------------------


def seeds_in_table(plan):
    frame = results_frame(plan)
    return frame.groupby("level")["seed"].apply(lambda seeds: max(seeds) + 1).to_dict(), frame


def test_the_table_shows_seeds_up_to_the_last_complete_look(planned):
    driver = Driver(planned(), lanes=1)
    driver.run(trials=4)
    counts, frame = seeds_in_table(driver.plan)
    assert set(counts.values()) == {3} and (frame["status"] == "missing").sum() == 11
    driver.run(trials=17)
    counts, frame = seeds_in_table(driver.plan)
    assert set(counts.values()) == {3} and set(frame["status"]) == {"finished"}
    driver.run()
    counts, frame = seeds_in_table(driver.plan)
    assert counts == {"0.25": 3, "0.5": 8, "0.75": 8, "random encoder": 3, "raw pixels": 3}
    assert set(frame["status"]) == {"finished"}


def test_a_seed_that_failed_beyond_the_last_look_is_shown(planned):
    driver = Driver(planned(), lanes=1)
    driver.run(trials=17)
    row = next(row for row in driver.plan.rows if row.label == "0.5")
    phase = row.trials[4].phases[0]
    phase.folder(driver.plan.store).begin(phase.document)
    phase.folder(driver.plan.store).fail("pretrain: Diverged: loss is nan", "")
    counts, frame = seeds_in_table(driver.plan)
    assert counts["0.5"] == 5 and counts["0.75"] == 3
    assert "failed" in set(frame[frame["level"] == "0.5"]["status"])


def test_the_page_shows_what_is_decided_and_how_intervals_shrank(planned, tmp_path):
    driver = Driver(planned(STUDY.replace("recipe: toy", "recipe: toy\npaper: figure_5")), lanes=1)
    declare_plan(driver.plan)
    driver.run(trials=17)

    def page():
        files = write_report(driver.plan, tmp_path / "reports" / "x")
        return {path.name: path for path in files}

    files = page()
    text = files["table.md"].read_text()
    assert "| undecided so far, 3 of 8 seeds |" in text and "| undecided so far |" in text
    assert "| different after 3 seeds |" in text and "descriptive" not in text
    assert "![Looks: Linear probe](looks_linear_probe.png)" in text
    driver.run()
    files = page()
    html, text = (files[name].read_text() for name in ("index.html", "table.md"))
    assert "| undecided after 8 seeds |" in text and "inconclusive" in text
    assert "of 2 differences to the baseline: 1 contradicted, 1 inconclusive" not in text
    assert '<h2 id="looks">Looks</h2>' in html and html.count("<svg") >= 2
    assert "Band: the declared margin of ±0.5 points." in html
    assert {f"looks_linear_probe.{kind}" for kind in ("png", "svg", "pdf")} <= files.keys()
    about = json.loads(files["report.json"].read_text())
    assert "looks_linear_probe.png" in about["files"] and about["descriptive"] == ""
    write_report(planned(FIXED, seeds=3), tmp_path / "reports" / "x")
    assert not list((tmp_path / "reports" / "x").glob("looks_*")), "it grows no more"


def test_a_study_without_the_papers_numbers_counts_what_is_decided(planned):
    driver = Driver(planned(), lanes=1)
    driver.run()
    results = results_frame(driver.plan)
    said = (
        ReportDocument(driver.plan, table_frame(driver.plan, results), results).sections[0].headline
    )
    assert "Of 2 differences to the baseline: 1 different, 1 undecided." in said


def test_a_study_of_fixed_seeds_has_no_looks(planned, tmp_path):
    files = write_report(planned(FIXED.replace("margin: 0.5\n", "")), tmp_path / "x")
    assert not [path for path in files if path.name.startswith("looks")]
    text = (tmp_path / "x" / "index.html").read_text()
    assert "Looks" not in text and "decided" not in (tmp_path / "x" / "table.csv").read_text()


def test_a_plan_says_when_it_is_looked_at_and_what_it_costs_from_to(planned):
    plan = planned()
    said = summary_of(plan)
    assert "seeds: 3 at first, at most 8, looks at 3, 5, 8, no difference: within ±0.5" in said
    assert (
        "trials: (3 levels + 2 references) x 3 to 8 seeds - 0 shared = 15 to 40; 0 finished in"
    ) in said
    few, most = [line for line in said.splitlines() if "estimate: " in line]
    assert few.startswith("first look, estimate: ") and most.startswith("at most, estimate: ")
    assert trial_lines(plan.up_to(3)).count("to run") == 15


def summary_of(plan):
    from mae_ablation.report.summary import describe_plans

    return describe_plans([], [plan], 2)


# what cannot be ---------------------------------------------------------------------------------

GROWING = "seeds: {first: 3, most: 8}"
BAD = [
    ("seeds: {first: 8, most: 5}", "x.yaml:5: most is 5, first is 8: give 8 or more"),
    (
        "seeds: {first: 1, most: 5}",
        "x.yaml:5: first is 1: fewer than 3 seeds decide nothing, give 3",
    ),
    ("seeds: {first: x}", 'x.yaml:5: first is "x": give a whole number'),
    ("seeds: {frist: 3}", 'x.yaml:5: unknown key of seeds "frist" (did you mean "first"?)'),
    ("seeds: {first: 3, most: 20000}", "x.yaml:5: most is 20000: use 10,000 or fewer"),
    (f"{GROWING}\nmargin: 0", "x.yaml:6: margin is 0: give points above 0, as 0.5"),
    (f"{GROWING}\nmargin: -1", "x.yaml:6: margin is -1: give points above 0"),
    (f"{GROWING}\nmargin: wide", 'x.yaml:6: margin is "wide": give a number, as 0.5'),
    (f"{GROWING}\nalpha: 1", "x.yaml:6: alpha is 1: give a chance between 0 and 1"),
    (f"{GROWING}\nspending: all", "x.yaml:6: spending is all: use pocock or obrien_fleming"),
    ("seeds: 3\nspending: pocock", "x.yaml:6: spending goes with seeds: {first: 3, most: 20} or"),
    (f"{GROWING}\nmeasure: hours", "x.yaml:5: seeds until decided needs an accuracy"),
    ("seeds: 3\nmargin: 1\nmeasure: hours", "x.yaml:6: a margin needs an accuracy"),
    (
        f"{GROWING}\ntune: {{linear_probe.base_lr: [0.1, 0.2]}}",
        "x.yaml:5: tune chooses values once every seed is there: fix the seeds, or remove tune",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_what_cannot_be_is_one_line(planned, text, message):
    study = "recipe: toy\nphases: [pretrain, linear_probe]\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
    with pytest.raises(UserError) as error:
        planned(f"{study}{text}\n")
    assert message in str(error.value) and "\n" not in str(error.value)


FIXED = STUDY.replace("{first: 3, most: 8}", "1")


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ({}, (3, 5, 8, 12, 20)),
        ({"most": 8}, (3, 5, 8)),
        ({"seeds": 5, "most": 8}, (5, 8)),
        ({"seeds": 30}, (30,)),
    ],
)
def test_fixed_seeds_are_made_to_grow_by_the_command(planned, asked, looks):
    study = planned(FIXED, until_decided=True, **asked).study
    assert study.declared.looks == looks and study.seeds == tuple(range(looks[-1]))
    assert planned(FIXED, until_decided=True, **asked).study == study


def test_growing_seeds_are_fixed_or_given_another_end_by_the_command(planned):
    assert planned().study.seeds == tuple(range(8))
    assert planned(seeds=2).study.declared.looks == (2,)
    assert planned(until_decided=True).study.declared.looks == (3, 5, 8)
    assert planned(until_decided=True, most=5).study.declared.looks == (3, 5)


@pytest.mark.parametrize(
    ("text", "asked", "message"),
    [
        (FIXED, {"most": 8}, "--most: it goes with --until-decided"),
        (FIXED, {"until_decided": True, "most": 2}, "--most: most is 2, first is 3: give 3 or"),
        (
            FIXED.replace("seeds: 1", "seeds: [4, 9]"),
            {"until_decided": True},
            "--until-decided: the study lists its seeds: add --seeds N",
        ),
        (
            FIXED + "measure: hours\n",
            {"until_decided": True},
            "--until-decided: seeds until decided needs an accuracy",
        ),
    ],
)
def test_what_a_command_cannot_ask_is_one_line(planned, text, asked, message):
    with pytest.raises(UserError, match="^" + message):
        planned(text.replace("margin: 0.5\n", ""), **asked)


def test_a_suite_may_say_until_when_its_studies_grow(write_study, tmp_path):
    write_study(FIXED)
    suite = tmp_path / "studies" / "all.yaml"
    suite.write_text("studies: [x]\nseeds: {first: 3, most: 4}\n")
    (study,), _ = load_all(Selection(suite))
    assert study.declared.looks == (3, 4) and study.declared.margin == 0.5
    suite.write_text("studies: [x]\nseeds: {first: 5, most: 4}\n")
    with pytest.raises(UserError, match=r"all.yaml:2: most is 4, first is 5"):
        plan_studies([suite], store=tmp_path / "store")


# the budget -------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(monotonic=lambda: now.s, s=100.0)
    monkeypatch.setattr(stopping, "time", now)
    return now


def test_hours_are_those_since_the_command(clock):
    budget = TimeLimit(hours=2, began=100.0)
    clock.s += 7199
    assert budget.spent(2) == ""
    clock.s += 1
    assert budget.spent(2) == "2 hours"


def test_gpu_hours_count_the_gpus_of_lanes_that_are_alive(clock):
    budget = TimeLimit(gpu_hours=2, gpus_per_lane=0.5)
    assert budget.spent(0) == ""
    clock.s += 3600
    assert budget.spent(0) == "", "no lane, no GPU"
    clock.s += 3600
    assert budget.spent(3) == ""
    clock.s += 1200
    assert budget.spent(3) == "2 GPU-hours"


def test_a_cost_is_that_of_the_gpus_of_lanes_that_are_alive(clock):
    budget = TimeLimit(max_cost=3, price=1.5, gpus_per_lane=1)
    clock.s += 3600
    assert budget.spent(1) == ""
    clock.s += 1800
    assert budget.spent(2) == "a cost of 3"


def test_without_a_limit_nothing_is_ever_spent(clock):
    budget = TimeLimit()
    clock.s += 1e9
    assert budget.spent(8) == ""


def test_a_budget_that_is_spent_stops_lanes_as_ctrl_c_does_and_keeps_what_is_decided(
    planned, clock, monkeypatch
):
    driver = Driver(planned(), lanes=1)
    driver.run(trials=17)
    assert driver.start("0.1").seed == 4
    pool = SimpleNamespace(alive=["0.1"], fill=lambda state: None, count_awaited=lambda state: 1)
    pool.leave = pool.tell_devices = lambda *said: None
    pool.count_working = lambda state: 1

    def reap(state, say):
        if driver.queue.beat("0.1", driver.tasks["0.1"].number, {}):
            driver.queue.take_back("0.1", Outcome(driver.tasks["0.1"].number, put_back="stopped"))
            pool.alive.clear()

    pool.reap = reap
    monkeypatch.setattr(run_module, "ask_queue", lambda reference: reference)
    later = SimpleNamespace(sleep=lambda seconds: setattr(clock, "s", 1e9))
    monkeypatch.setattr(run_module, "time", later)
    said = []
    run_module.Driver(
        state=driver.state,
        queue=Remote(driver.queue),
        kept=driver.trials,
        pool=pool,
        time_limit=TimeLimit(hours=1, began=clock.s),
        search=None,
        seed_gate=driver.looks,
        view=SimpleNamespace(show=lambda state: None, say=said.append),
    ).watch(SimpleNamespace(asked=False), SimpleNamespace(ask=lambda lanes: None))
    assert said == ["the budget of 1 hour is spent: finishing the running step and saving"]
    assert driver.state.spent == "1 hour" and not driver.state.is_over
    assert not driver.state.failed, "it is gone on with by the same command"
    assert len(find_standing(driver.plan).decided) == 3
    again = Driver(planned(), lanes=1)
    again.run()
    assert len(driver.ran) + len(again.ran) == 3 * 3 + 2 * 8

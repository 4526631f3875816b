"""The queue: leases, deaths, other runs, a queue that is killed; and what the driver remembers."""

from types import SimpleNamespace

import pytest

from mae_ablation.run import queue as queue_module
from mae_ablation.run.dataset_cache import DatasetCache
from mae_ablation.run.queue import ASK_AGAIN, BUSY_S, MOST_DEATHS, WAIT, Outcome, Task, TrialQueue
from mae_ablation.run.run_state import RunState


def trial(label, source="pretrain", needs=None):
    return SimpleNamespace(label=label, id=label, source=source, needs=needs)


def queue(*labels):
    return TrialQueue([trial(label) for label in labels])


def label(task):
    return task.trial.label


def finished(task):
    return Outcome(task.number)


def epoch(n, phase="pretrain"):
    return {"phase": phase, "epoch": n, "saved": {phase: n}}


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(monotonic=lambda: now.s, s=100.0)
    monkeypatch.setattr(queue_module, "time", now)
    return now


def test_each_trial_is_handed_out_once():
    q = queue("a", "b", "c")
    a, b = q.next("0.1"), q.next("1.2")
    assert (label(a), label(b), a.attempt, a.owner) == ("a", "b", 1, "0.1")
    c = q.next("1.2", finished(b))
    assert label(c) == "c" and q.snapshot().waiting == 0
    assert q.next("0.1", finished(a)) is None
    assert q.next("1.2", Outcome(c.number, "loss is nan")) is None
    assert q.snapshot().ended == [(1, None), (0, None), (2, "loss is nan")]
    assert q.snapshot(since=2).ended == [(2, "loss is nan")]


def test_the_trial_of_a_dead_lane_goes_to_the_next_one_that_asks():
    q = queue("a", "b", "c")
    q.next("0.1"), q.next("1.2")
    q.lost("0.1", "killed")
    again = q.next("1.2", Outcome(1))
    assert (label(again), again.attempt) == ("a", 2)
    assert again.owner == "0.1"  # it may take over the dead lane's claim
    assert q.next("0.1") is None and q.beat("0.1", 0, {})  # a straggler is sent away


def test_a_trial_that_keeps_killing_its_worker_is_given_up():
    q = queue("a", "b")
    for n in range(MOST_DEATHS):
        assert label(q.next(f"0.{n}")) == "a"
        q.lost(f"0.{n}", "killed")
    assert label(q.next("0.9")) == "b"
    reason = f"its worker died {MOST_DEATHS} times without getting further (attempt 3): killed"
    assert q.snapshot().ended == [(0, reason)]


def test_deaths_with_progress_between_them_and_lost_nodes_do_not_count():
    q = queue("a")
    for n in range(5):
        q.next(f"0.{n}")
        q.beat(f"0.{n}", 0, epoch(n + 1))
        q.lost(f"0.{n}", "killed")
    for n in range(5, 9):
        q.next(f"0.{n}")
        q.beat(f"0.{n}", 0, epoch(3))  # from a checkpoint: no further than before
        q.lost(f"0.{n}", "its node was lost", counts=False)
    assert q.next("0.9").attempt == 10
    q.beat("0.9", 0, epoch(1, "linear_probe"))  # a phase further
    q.lost("0.9", "killed")
    assert q.snapshot().deaths[0].in_a_row == 1 and q.snapshot().ended == []


def test_late_progress_of_an_ended_trial_is_ignored():
    q = queue("a", "b")
    a = q.next("0.1")
    q.next("0.1", finished(a))
    q.beat("0.1", a.number, epoch(1))
    assert q.snapshot().running["0.1"].number == 1 and not q.snapshot().running["0.1"].progress


def test_what_another_run_is_at_work_on_comes_later(clock):
    q = queue("a", "b")
    a = q.next("0.1")
    b = q.next("0.1", Outcome(a.number, put_back="busy"))
    assert label(b) == "b"
    assert q.next("0.1", finished(b)) == WAIT
    assert (q.snapshot().waiting, q.snapshot().elsewhere) == (1, 1)
    clock.s += BUSY_S
    assert label(q.next("0.1")) == "a" and q.snapshot().elsewhere == 0
    assert q.next("0.1", finished(a)) is None  # the other run has finished it


def test_asked_to_stop_lanes_leave_and_their_trials_wait():
    q = queue("a", "b")
    a = q.next("0.1")
    assert not q.beat("0.1", a.number, {})
    q.stop()
    assert q.beat("0.1", a.number, {})
    assert q.next("0.1", Outcome(a.number, put_back="stopped")) is None
    assert q.snapshot().waiting == 2 and q.snapshot().running == {} and q.snapshot().ended == []


def with_needs():
    first = trial("tokenizer", source="prepare")
    return TrialQueue([first, trial("tokens", needs=first), trial("pixels")])


def test_a_trial_waits_for_what_it_needs_and_others_do_not():
    q = with_needs()
    tokenizer, pixels = q.next("0.1"), q.next("1.2")
    assert [label(tokenizer), label(pixels)] == ["tokenizer", "pixels"]
    assert q.next("1.2", finished(pixels)) == WAIT
    tokens = q.next("0.1", finished(tokenizer))
    assert label(tokens) == "tokens"
    assert q.next("1.2") is None


def test_what_needs_a_failed_trial_fails_with_its_reason():
    q = with_needs()
    tokenizer = q.next("0.1")
    pixels = q.next("0.1", Outcome(tokenizer.number, "tokenizer: GateClosed"))
    assert label(pixels) == "pixels"
    assert q.next("0.1", finished(pixels)) is None
    reason = "it needs the tokenizer: tokenizer: GateClosed"
    assert dict(q.snapshot().ended) == {0: "tokenizer: GateClosed", 1: reason, 2: None}


def look(state, q):
    """As the driver does: a queue that has forgotten is told."""
    if not state.take(q.snapshot(state.since)):
        q.restore(state.trials, state.ended, state.deaths)
        assert state.take(q.snapshot(state.since))


def test_a_queue_that_was_killed_learns_from_its_lanes_and_the_driver():
    trials = [trial(name) for name in "abcd"]
    q, state = TrialQueue(trials), RunState(trials=trials)
    a, b = q.next("0.1"), q.next("1.2")
    q.lost("1.2", "killed")
    q.next("0.1", Outcome(a.number, "loss is nan"))
    look(state, q)
    assert state.failed == {0: "loss is nan"} and not state.is_over

    q = TrialQueue()  # as Ray starts it again
    assert q.next("2.3", Outcome(0)) == ASK_AGAIN
    look(state, q)
    q.beat("0.1", b.number, epoch(1))  # a lane is at work on it
    look(state, q)
    assert state.running["0.1"].number == b.number and state.waiting == 2
    c = q.next("2.3")
    assert label(c) == "c", "neither what has failed nor what a lane is at"
    d = q.next("0.1", finished(b))
    q.next("2.3", finished(c))
    q.next("0.1", finished(d))
    look(state, q)
    assert state.is_over and state.finished == [1, 2, 3] and state.failed == {0: "loss is nan"}
    assert state.deaths[1].all == 1


def test_ten_thousand_trials_are_handed_out_in_linear_time():
    q = queue(*map(str, range(10_000)))
    task = q.next("0.1")
    while task is not None:
        task = q.next("0.1", finished(task))
        q.snapshot(since=len(q._ended))
    assert len(q.snapshot().ended) == 10_000


def test_a_data_set_is_decoded_by_one_lane_for_all():
    cache = DatasetCache()
    assert cache.ask("cifar10", "0.1") == "decode"
    assert cache.ask("cifar10", "1.2") == "wait"
    cache.lost("0.1", "killed", True)
    assert cache.ask("cifar10", "1.2") == "decode"
    cache.put("cifar10", ["reference"])
    assert cache.ask("cifar10", "0.3") == cache.ask("cifar10", "1.2") == ["reference"]
    cache.put("cifar10", None)  # lost, or it could not be decoded
    assert cache.ask("cifar10", "0.3") == "decode"


# hardware errors --------------------------------------------------------------------------------


class Pool:
    """A lane on each of some GPUs; those that are broken fail every kernel, as do some trials."""

    def __init__(self, gpus, trials, broken=(), poison=()):
        self.queue = queue(*trials)
        self.lanes = {f"GPU {n}": f"{n}.0" for n in range(gpus)}
        self.broken, self.poison, self.ran, self.starts = broken, poison, [], 0
        self.tasks = {}

    def start(self, gpu):
        self.starts += 1
        self.lanes[gpu] = f"{self.lanes[gpu].split('.')[0]}.{self.starts}"
        self.queue.enter(self.lanes[gpu], gpu, "a test's")

    def step(self, gpu):
        """One trial of the GPU's lane, which starts again after an error; False: it has left."""
        lane = self.lanes[gpu]
        task = self.queue.next(lane, self.tasks.pop(lane, None))
        if task is None:
            return False
        if isinstance(task, Task):
            self.ran.append((gpu, label(task)))
            if gpu not in self.broken and label(task) not in self.poison:
                self.tasks[lane] = finished(task)
            elif not self.queue.fault(lane, gpu, "CUDA error: unspecified launch failure"):
                self.queue.lost(lane, "HardwareError", True)
                self.start(gpu)
        return True

    def run(self):
        for gpu in self.lanes:
            self.start(gpu)
        left = set()
        while len(left) < len(self.lanes):
            left |= {gpu for gpu in self.lanes if gpu not in left and not self.step(gpu)}
        return self.queue.snapshot()

    def ran_on(self, gpu):
        return [name for each, name in self.ran if each == gpu]


def test_a_gpu_that_fails_every_kernel_is_left_out_and_the_others_run_all_trials():
    pool = Pool(4, "abcdefgh", broken=["GPU 2"])
    now = pool.run()
    assert dict(now.ended) == dict.fromkeys(range(8)), "all of them finished"
    assert len(pool.ran_on("GPU 2")) == 2 and len(set(pool.ran_on("GPU 2"))) == 2
    assert now.faults["GPU 2"].is_left_out and now.parked == {pool.lanes["GPU 2"]}
    assert not any(deaths.in_a_row for deaths in now.deaths.values()), "not the trials' fault"


def test_a_trial_that_breaks_every_gpu_it_is_on_fails_and_the_gpus_stay():
    pool = Pool(4, "abcdefgh", poison=["b"])
    now = pool.run()
    assert dict(now.ended).pop(1) == (
        "a hardware error on each of 3 GPUs: CUDA error: unspecified launch failure"
    )
    assert sum(failure is None for _, failure in now.ended) == 7
    assert now.parked == set() and not any(each.is_left_out for each in now.faults.values())


def test_the_only_gpu_gets_its_trial_once_more_and_is_left_out_then():
    pool = Pool(1, "a", broken=["GPU 0"])
    pool.start("GPU 0")
    assert pool.step("GPU 0") and pool.step("GPU 0")
    assert pool.queue.next(pool.lanes["GPU 0"]) == WAIT, "it holds the GPU, and runs nothing"
    assert pool.queue.snapshot().parked and pool.queue.snapshot().ended == []
    pool.queue.stop()
    assert not pool.step("GPU 0")


def test_a_gpu_that_cannot_be_used_at_all_is_left_out_at_once_and_a_killed_queue_knows_it_again():
    q = queue("a")
    assert q.fault("0.1", "GPU 0", "no CUDA", hopeless=True)
    assert q.fault("0.1", "GPU 0", "no CUDA"), "said twice, counted once"
    state = RunState(trials=[trial("a")])
    state.take(q.snapshot())
    again = TrialQueue()
    assert again.next("0.1") == ASK_AGAIN
    again.restore(state.trials, {}, {}, frozenset(), state.devices, state.faults)
    assert again.next("0.1") == WAIT and label(again.next("1.2")) == "a"


def test_of_several_workers_the_first_one_s_gpu_counts():
    q = queue("a")
    q.next("0.1")
    assert not q.fault("0.1", "GPU 0", "ECC")
    assert not q.fault("0.1", "GPU 1", "NCCL: the other one is gone")
    assert q.beat("0.1", 0, {}) and q.snapshot().running == {}, "it does not get its trial back"
    assert [len(each.trials) for each in q.snapshot().faults.values()] == [1, 0]

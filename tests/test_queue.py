"""The queue: leases, restarts, giving up."""

from types import SimpleNamespace

import pytest

from mae_ablation.cluster.queue import ATTEMPTS, WAIT, TrialQueue
from mae_ablation.cluster.run import Lanes, require_resources
from mae_ablation.cluster.shelf import Shelf
from mae_ablation.study.errors import UserError


def queue(*labels):
    return TrialQueue([SimpleNamespace(label=label, id=label, needs=None) for label in labels])


def test_each_trial_is_handed_out_once():
    q = queue("a", "b", "c")
    assert [q.next(0).label, q.next(1).label] == ["a", "b"]
    q.finish(1, None)
    assert q.next(1).label == "c"
    q.finish(0, None)
    q.finish(1, "loss is nan")
    assert q.next(0) is None and q.next(1) is None
    assert q.snapshot().finished == ("b", "a") and q.snapshot().failed == {"c": "loss is nan"}


def test_a_restarted_lane_goes_on_with_its_trial():
    q = queue("a", "b")
    assert q.next(0).label == "a"
    assert q.next(0).label == "a"
    assert q.snapshot().running[0].attempts == 2 and q.snapshot().waiting == 1


def test_a_trial_that_keeps_killing_its_worker_is_given_up():
    q = queue("a", "b")
    for _ in range(ATTEMPTS):
        assert q.next(0).label == "a"
    assert q.next(0).label == "b"
    assert q.snapshot().failed == {"a": f"its worker died {ATTEMPTS} times"}


def test_late_progress_of_an_ended_trial_is_ignored():
    q = queue("a")
    q.next(0)
    q.finish(0, None)
    q.progress(0, {"epoch": 1})
    assert q.snapshot().running == {}


def with_needs():
    first = SimpleNamespace(label="tokenizer", id="t", needs=None)
    after = SimpleNamespace(label="tokens", id="x", needs=first)
    other = SimpleNamespace(label="pixels", id="y", needs=None)
    return TrialQueue([first, after, other])


def test_a_trial_waits_for_what_it_needs_and_others_do_not():
    q = with_needs()
    assert [q.next(0).label, q.next(1).label] == ["tokenizer", "pixels"]
    q.finish(1, None)
    assert q.next(1) == WAIT
    q.finish(0, None)
    assert q.next(1).label == "tokens"
    assert q.next(0) is None


def test_what_needs_a_failed_trial_fails_with_its_reason():
    q = with_needs()
    q.next(0)
    q.finish(0, "tokenizer: GateClosed")
    assert q.next(0).label == "pixels"
    q.finish(0, None)
    assert q.next(0) is None
    reason = "it needs the tokenizer: tokenizer: GateClosed"
    assert q.snapshot().failed == {"tokenizer": "tokenizer: GateClosed", "tokens": reason}


def test_a_data_set_is_decoded_by_one_lane_for_all():
    shelf = Shelf()
    assert shelf.ask("cifar10", 0) == "decode"
    assert shelf.ask("cifar10", 1) == "wait"
    assert shelf.ask("cifar10", 0) == "decode"  # its worker died and was restarted
    shelf.put("cifar10", ["reference"])
    assert shelf.ask("cifar10", 1) == shelf.ask("cifar10", 0) == ["reference"]
    shelf.put("cifar10", None)  # lost, or it could not be decoded
    assert shelf.ask("cifar10", 1) == "decode"


def test_asking_for_more_than_the_cluster_has_is_one_line():
    require_resources(Lanes(count=2), {"CPU": 2.0})
    with pytest.raises(
        UserError, match="8 lanes x 1 thread need 8 CPU, the cluster has 2: --lanes 2"
    ):
        require_resources(Lanes(count=8), {"CPU": 2.0})
    with pytest.raises(UserError, match="need 1 GPU, the cluster has 0: leave out --gpus"):
        require_resources(Lanes(count=2, gpus=0.5), {"CPU": 2.0})


def test_default_lanes_use_every_core_once():
    assert Lanes.default(None, 0.0, 2) == Lanes(count=2, cpus=1)
    assert Lanes.default(1, 0.0, 2) == Lanes(count=1, cpus=2)
    assert Lanes.default(3, 0.0, 8) == Lanes(count=3, cpus=2)

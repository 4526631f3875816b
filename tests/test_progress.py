"""Progress: a study's state in a line, its trials in a table, a failure as soon as it happens."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from mae_ablation.api import plan_study
from mae_ablation.run.progress import Progress, RemainingTime
from mae_ablation.run.queue import Lease
from mae_ablation.run.run_state import RunState

AT_WORK = {"phase": "pretrain", "epoch": 2, "epochs": 7, "loss": 0.5, "images_per_s": 900.0}
AT_WORK |= {"seconds_left": 50.0}
SECONDS = {"a": 100.0, "b": 100.0, "c": 40.0, "d": 40.0}


def fakes():
    label = "mask_sampling mask_sampling=block_50 seed"
    return [
        SimpleNamespace(label=f"{label} {name}", phases=(SimpleNamespace(identity=name),))
        for name in SECONDS
    ]


@pytest.fixture
def state():
    state = RunState(trials=fakes(), wanted=2, live=2)
    state.running = {"0.1": Lease(0, 1, dict(AT_WORK)), "1.1": Lease(1)}
    return state


def console(width, terminal=False):
    options = {"highlight": False, "markup": False, "soft_wrap": True}
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, **options)


def finish(state, number, failure=None):
    state.ended[number] = failure
    if failure:
        state.failed[number] = failure
    else:
        state.finished.append(number)
    state.running = {lane: each for lane, each in state.running.items() if each.number != number}


def test_time_left_packs_what_waits_behind_what_runs(state):
    remaining = RemainingTime(state.trials, SECONDS)
    remaining.watch(state, now=0.0)
    assert remaining.left(state, now=0.0) == 140
    assert remaining.left(state, now=60.0) == 90  # the phase itself says 50 more: then c
    assert RemainingTime(state.trials, {}).left(state) is None


def test_what_is_dropped_at_work_is_counted_once(state):
    state.held = frozenset({1, 2, 3})  # 1 is at work until its lane hears of it
    out = console(120)
    Progress(out, state.trials, done=0, seconds=SECONDS).show(state)
    assert "2 running" in out.file.getvalue() and "waiting" not in out.file.getvalue()


def test_what_another_run_has_is_said(state):
    state.elsewhere = 1
    out = console(120)
    Progress(out, state.trials, done=0, seconds=SECONDS).show(state)
    assert "2 running, 2 waiting, 1 of them at work in another run" in out.file.getvalue()


def test_time_left_learns_from_what_was_measured(state):
    remaining = RemainingTime(state.trials, SECONDS)
    remaining.watch(state, now=0.0)
    finish(state, 0)
    remaining.watch(state, now=200.0)  # twice as long as estimated; an estimate has a say, too
    assert remaining.factor == pytest.approx((200 + 70) / (100 + 70))
    state.running = {"1.1": Lease(1, 1, {"seconds_left": 10.0}), "0.1": Lease(2)}
    factor = remaining.factor
    assert remaining.left(state, now=200.0) == pytest.approx(10 + 40 * factor)


def test_a_pipe_gets_a_few_plain_lines(state):
    out = console(80)
    with Progress(out, state.trials, done=9, seconds=SECONDS) as progress:
        for _ in range(50):
            progress.show(state)
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "starting Ray and the lanes ..."
    assert lines[1] == "[0:00] 0/4 trials  2 running, 2 waiting, 9 cached, about 2:20 left"
    assert lines[2].startswith("  lane 0: mask_sampling") and "epoch 2/7" in lines[2]
    assert len(lines) == 3 and "\x1b" not in out.file.getvalue()


def test_a_failure_is_said_when_it_happens_with_its_reason_and_place(write_study, tmp_path):
    plan = plan_study(
        write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5]\n"), store=tmp_path / "store"
    )
    trials, out = plan.trials, console(60)
    number = next(i for i, trial in enumerate(trials) if trial.source == "pretrain")
    folder = trials[number].phases[0].folder(plan.store)
    folder.begin({})
    folder.fail("pretrain: loss is nan", "traceback")
    state = RunState(trials=trials, wanted=1, live=1)
    with Progress(out, trials, store=plan.store) as progress:
        progress.show(state)
        finish(state, number, "pretrain: loss is nan")
        progress.show(state)
        progress.show(state)
    text = out.file.getvalue()
    assert text.count("FAILED mask_ratio=0.5 seed 0: pretrain: loss is nan") == 1
    assert f"its log: {tmp_path}/store/{folder.name}/failure.json" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(state, width):
    out = console(width, terminal=True)
    with Progress(out, state.trials, done=9, seconds=SECONDS) as progress:
        table = progress._table(state)
    plain = Console(file=io.StringIO(), width=width)
    plain.print(table)
    lines = plain.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "2 running" in text and "about 2:20 left" in text
    assert "2/7" in text and "0:50" in text
    assert ("images/s" in text) == (width >= 100)

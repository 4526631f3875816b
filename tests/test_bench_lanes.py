"""Lanes: what a process of the benchmark answers, without starting one."""

import io
import json
import sys

import torch

from mae_ablation.bench import lanes, laptop
from mae_ablation.bench.lanes import SIDE_BY_SIDE, TOGETHER

torch.set_num_threads(1)


class Answers:
    """Stands in for a process."""

    def __init__(self, rate):
        self.rate, self.begun = rate, 0

    def begin(self):
        self.begun += 1

    def hear(self):
        assert begun_all(self.side), "asked for an answer before all were told to begin"
        return {"images_per_s": self.rate}


def begun_all(side):
    return len({each.begun for each in side}) == 1


def test_lanes_begin_together():
    side = [Answers(300.0), Answers(250.0)]
    for each in side:
        each.side = side
    assert lanes.rates(side) == [300.0, 250.0]


def test_both_ways_have_two_threads():
    assert SIDE_BY_SIDE.processes * SIDE_BY_SIDE.threads == TOGETHER.processes * TOGETHER.threads


def test_a_process_trains_at_every_go(toy, monkeypatch, capsys):
    monkeypatch.setattr(laptop, "laptop", lambda: toy)
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\ngo\n"))
    lanes.main("1", "2")
    ready, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"ready": True}
    assert len(answers) == 2 and all(answer["images_per_s"] > 0 for answer in answers)

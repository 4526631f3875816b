"""Growth: exponents of costs that are known."""

import pytest
import torch

from mae_ablation.bench import growth

torch.set_num_threads(1)


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_exponent_of_a_power_is_found(power):
    sizes = (16, 36, 64, 100)
    assert growth.exponent(sizes, [3e-3 * n**power for n in sizes]) == pytest.approx(power)


def test_a_block_s_seconds_are_told_from_the_rest():
    assert growth.line((2, 4, 8, 16), (0.05, 0.07, 0.11, 0.19)) == pytest.approx((0.01, 0.03))


@pytest.mark.slow
def test_every_size_is_timed(toy, monkeypatch):
    monkeypatch.setattr(growth, "BATCHES", (10, 20))
    monkeypatch.setattr(growth, "SIDES", (10, 20))
    monkeypatch.setattr(growth, "DEPTHS", (1, 2))
    monkeypatch.setattr(growth, "WIDTHS", (8, 16))
    monkeypatch.setattr(growth, "WARM_UP", 1)
    monkeypatch.setattr(growth, "laptop", lambda: toy)
    lines = growth.growth(rounds=1, steps=1)
    assert [line.sizes for line in lines] == [(10, 20), (4, 16), (1, 2), (8, 16)]
    assert all(min(line.seconds) > 0 for line in lines)

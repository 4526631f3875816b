"""Linear probe: the other side of the benchmark does the same work, and is extrapolated rightly."""

import pytest
import torch

from mae_ablation.bench import probe
from mae_ablation.data.dataset import load
from mae_ablation.train.linear_probe import Head, encoder, extract
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun

torch.set_num_threads(1)


@pytest.fixture
def encode(toy):
    return encoder(toy, "random", None, 1, 0, "cpu")


def test_features_encoded_anew_are_those_that_are_kept(toy, encode, folder):
    data, index = load(toy.data), torch.randperm(200)[:50]
    anew = probe.encoding_anew(data, encode)(index)
    kept = extract(data.train, encode, data, toy, PhaseRun(folder=folder))
    assert torch.allclose(anew, kept[index], atol=1e-6)
    assert torch.allclose(probe.looking_up(data, encode)(index), anew, atol=1e-6)


def test_looking_up_trains_the_same_classifier(toy, encode):
    data = load(toy.data)
    one, two = (
        probe.their_training(toy, data, ways(data, encode), seed=1)
        for ways in (probe.encoding_anew, probe.looking_up)
    )
    assert torch.allclose(one.linear.weight, two.linear.weight, rtol=1e-3, atol=1e-4)
    untrained = Head(16, 10, generator(1, "probe/init"))
    assert not torch.allclose(one.linear.weight, untrained.linear.weight, atol=1e-3)


def test_a_phase_is_its_epochs_and_what_is_done_once():
    assert probe.whole_phase_s(12.0, timed=2, epochs=90, once_s=3.0) == 543.0


def test_a_row_tells_both_times_and_both_accuracies(toy, tmp_path):
    row = probe.against_encoding_anew(toy, tmp_path, rounds=2)
    assert len(row.values) == 2 and min(row.values) > 0
    assert "3 times the mean of 2 timed epochs" in row.note
    assert "Test accuracy over 2 seeds" in row.note


def test_accuracies_are_compared_seed_by_seed():
    said = probe.compared([75.0, 76.0], [75.5, 75.5])
    assert "ours 75.50 +- 0.71 %, the other 75.50 +- 0.00 %, difference 0.00 +- 0.71." in said
    assert probe.spread([75.0]) == "75.00"

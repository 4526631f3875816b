"""The training that benchmarks time is the phase's own."""

import torch

from mae_ablation.bench.laptop import Training, laptop
from mae_ablation.bench.threads import threads
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun

torch.set_num_threads(1)


def test_timed_steps_are_those_of_the_phase(toy, folder):
    pretrain(toy, 3, PhaseRun(folder=folder))
    training = Training(toy, seed=3)
    for _ in range(toy.pretrain.epochs * 4):  # 200 images in batches of 50
        training.step()
    wanted = load_checkpoint(folder.final_checkpoint(), "cpu")["model"]
    for name, value in training.model.state_dict().items():
        assert torch.allclose(value, wanted[name], atol=1e-6), name


def test_the_recipe_is_the_repository_s():
    assert laptop().model.encoder_width == 96 and laptop().pretrain.batch_size == 64


def test_threads_are_given_back():
    with threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1

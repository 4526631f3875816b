"""What a step would do on a GPU, seen on tensors without content: nothing in it waits."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from toys import a_folder, change, require_same_training

from mae_ablation.data import augment, transfer
from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.feed import Feed
from mae_ablation.data.transfer import send
from mae_ablation.registry import find_component
from mae_ablation.train import pretrain as pretrain_module
from mae_ablation.train import run as run_module
from mae_ablation.train.ahead import draw_ahead
from mae_ablation.train.models import build_model
from mae_ablation.train.optim import generator
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun

torch.set_num_threads(1)


class NoGpu(TorchFunctionMode):
    """Gives tensors without content for those on a GPU, and notes what would wait for it."""

    READS = ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "numpy")

    def __init__(self) -> None:
        self.fake, self.pinned = FakeTensorMode(allow_non_fake_inputs=True), {}
        self.waits, self.sent = [], 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if name == "pin_memory":
            self.pinned[id(first)] = first
            return first
        given = (*args[1:], *kwargs.values()) if name == "to" else (kwargs.get("device"),)
        devices = [d for d in given if isinstance(d, torch.device) or d in ("cuda", "cpu")]
        to_gpu = any(torch.device(d).type == "cuda" for d in devices)
        if name == "to" and to_gpu and first.device.type == "cpu":
            self.sent += first.nbytes
            if not (kwargs.get("non_blocking") and id(first) in self.pinned):
                self.waits.append(f"copy of {tuple(first.shape)}")
            with self.fake:
                return torch.empty(first.shape, dtype=first.dtype, device="cuda")
        if name == "tensor" and to_gpu:
            self.waits.append("a constant")
        if name in self.READS and first is not None and first.device.type == "cuda":
            self.waits.append(name)
        if to_gpu:
            with self.fake:
                return func(*args, **kwargs)
        return func(*args, **kwargs)


@pytest.fixture
def gpu():
    yield NoGpu()
    augment.every_weight.cache_clear()
    transfer.channel_constants.cache_clear()


@pytest.mark.parametrize("augmentation", ["crop_fixed", "crop_random", "crop_jitter"])
def test_no_copy_of_a_step_waits_for_the_gpu(toy, gpu, augmentation):
    recipe = change(toy, "pretrain", mask_sampling="block")
    data, n, steps = load_dataset(recipe.data), 50, 3
    view = View(augmentation=find_component("augmentation", augmentation).cls())
    feed, rng = Feed(data.train, view, "cuda"), generator(0, "mask")
    with gpu.fake, torch.device("cuda"):
        model = build_model(recipe, data.channels, seed=0)
    batches = feed.batches(torch.arange(n * steps).split(n), generator(0, "augment"))
    with gpu:
        for step in range(steps):
            if step == 1:  # constants are made in the first step
                gpu.waits.clear()
                gpu.sent = 0
            pixels, _ = next(batches)
            shuffle = recipe.sampler.shuffle(n, model.grid, recipe.kept_patches, rng)
            images = normalise(pixels, data.mean, data.std)
            model(images, send(shuffle, "cuda"), recipe.kept_patches)
    assert gpu.waits == []
    images, masks = 30 * 30, 8 * 36
    small = 8 + 3 * 2 * 8 + 4 * 4 + 4 * 8  # label, crop box along two axes, jitter and its order
    assert gpu.sent <= 2 * n * (images + masks + small), "crop weights are made on the device"


# masks drawn ahead --------------------------------------------------------------------------------


def test_masks_drawn_ahead_are_those_drawn_one_after_another():
    def draw(rng):
        return torch.rand(3, generator=rng)

    one, other = generator(0, "mask"), generator(0, "mask")
    plain = draw_ahead(draw, one, 5, in_thread=False)
    ahead = draw_ahead(draw, other, 5, in_thread=True)
    for _ in range(5):
        assert torch.equal(next(plain), next(ahead))
        assert torch.equal(one.get_state(), other.get_state()), "as a checkpoint would save it"


def test_a_mask_that_cannot_be_drawn_is_the_loop_s_error():
    def draw(rng):
        raise ValueError("grid sampling needs even sides")

    with pytest.raises(ValueError, match="even sides"):
        next(draw_ahead(draw, generator(0, "mask"), 2, in_thread=True))


def test_a_training_with_masks_drawn_ahead_is_the_same(toy, tmp_path, monkeypatch):
    recipe = change(toy, "pretrain", mask_sampling="block", reconstructions=0)
    plain, ahead = a_folder(tmp_path, "plain"), a_folder(tmp_path, "ahead")
    pretrain(recipe, 0, PhaseRun(folder=plain))

    def in_thread(draw, rng, times, *, in_thread):
        return draw_ahead(draw, rng, times, in_thread=True)

    monkeypatch.setattr(pretrain_module, "draw_ahead", in_thread)
    pretrain(recipe, 0, PhaseRun(folder=ahead))
    require_same_training(plain, ahead)


# measured -----------------------------------------------------------------------------------------


def test_the_memory_of_measuring_the_best_speed_is_not_the_phase_s(folder, monkeypatch):
    done = []
    for name in ("ceiling_flops_per_s", "free_gpu_memory", "reset_peak_memory"):
        monkeypatch.setattr(run_module, name, lambda *_, name=name: done.append(name))
    PhaseRun(folder=folder, device="cuda").begin_measuring("bfloat16")
    assert done == ["ceiling_flops_per_s", "free_gpu_memory", "reset_peak_memory"]

"""The first points of a check of a GPU: `doctor --gpu` and tests/gpu_smoke.py run them.

Each point is a function that returns what it found, and raises where something is wrong.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import torch

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import column_of, component_names, list_components
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.recipe_file import find_recipe, read_recipe
from mae_ablation.study.settings import resolve
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.models import build_model, load_target
from mae_ablation.train.optim import generator
from mae_ablation.train.precision import NumberFormat
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


class Skipped(Exception):
    """A point that this machine cannot be asked."""


@dataclass
class Bench:
    """The device that is checked, a folder to work in, and the recipes."""

    device: str
    place: Path
    count: int = 0

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def recipe(self, name: str = "smoke") -> Recipe:
        """Read a recipe that ships; nothing of it but the first table is drawn."""
        recipe = resolve(read_recipe(find_recipe(name, Path.cwd(), "--gpu")).settings)
        return change(recipe, "pretrain", reconstructions=0)

    def run(self, **more: object) -> PhaseRun:
        """Make a phase's run in a new folder."""
        self.count += 1
        (self.place / str(self.count)).mkdir()
        folder = PhaseFolder.at(self.place / str(self.count))
        return PhaseRun(**{"folder": folder, "device": self.device, **more})

    def need_gpu(self) -> None:
        """Raise Skipped on a CPU."""
        if not self.on_gpu:
            raise Skipped("needs a GPU")


def change(recipe: Recipe, section: str, **values: object) -> Recipe:
    """Return a recipe with other values in one section."""
    part = replace(getattr(recipe, section), **values)
    return replace(recipe, **{section: part})


def check_machine(bench: Bench) -> str:
    """Say what torch, driver and GPUs there are."""
    if not bench.on_gpu:
        return f"torch {torch.__version__} on a CPU"
    asked = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    cards = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}; {'; '.join(filter(None, cards))}"


def check_loss(bench: Bench) -> str:
    """Compare the loss on a CPU and on the GPU: targets x samplings x mask tokens."""
    # targets that need something fitted first are made of the same parts
    worst, cases = 0.0, 0
    images, channels = torch.randn(8, 1, 30, 30, generator=generator(0, "images")), 1
    targets = [each.name for each in list_components("target") if not each.cls.needs]
    samplings = [each.name for each in list_components("sampler")]
    for target, sampling, tokens in product(targets, samplings, (False, True)):
        recipe = change(bench.recipe(), "model", encoder_mask_tokens=tokens)
        recipe = change(recipe, "pretrain", target=target, mask_sampling=sampling)
        fitted, _ = load_target(recipe, None, SimpleNamespace(channels=channels), "cpu")
        model, keep = build_model(recipe, channels, 0, fitted), recipe.kept_patches
        shuffle = recipe.sampler.shuffle(8, model.grid, keep, generator(0, "mask"))
        NumberFormat("float32", bench.device)
        on_cpu = model(images, shuffle, keep).item()
        there = model.to(bench.device)(images.to(bench.device), shuffle.to(bench.device), keep)
        worst, cases = max(worst, abs(there.item() / on_cpu - 1)), cases + 1
    assert worst < 1e-4, f"the loss differs by {worst:.1e} of it"
    return f"{cases} combinations, largest difference {worst:.1e} of the loss"


def check_phases(bench: Bench) -> str:
    """Run every phase of the recipe smoke in every precision."""
    # a precision changes a loss by less than 2 %
    losses = {}
    for precision in PRECISIONS:
        recipe = bench.recipe()
        for section in ("pretrain", "linear_probe", "finetune", "partial", "scratch"):
            recipe = change(recipe, section, precision=precision)
        recipe = change(recipe, "partial", epochs=1)
        run = bench.run()
        losses[precision] = pretrain(recipe, 0, run)["train_loss"]
        for kind in [name for name in component_names("evaluation") if column_of(name) == name]:
            found = evaluate(recipe, kind, 0, bench.run(), upstream=run.folder)
            assert 0 < found["test_acc1"] <= 100, f"{kind} in {precision}: {found['test_acc1']}"
        evaluate(recipe, "scratch", 0, bench.run(), source="scratch")
    assert max(losses.values()) < 1.02 * min(losses.values()), losses
    return "loss " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items())


FIRST_POINTS: dict[str, Callable[[Bench], str]] = {
    "machine": check_machine,
    "loss": check_loss,
    "phases": check_phases,
}

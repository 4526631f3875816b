"""A whole study, from the command to its table, against its trials as plain scripts.

    python -m tests.bench.study pretrain RATIO WORKERS     answers {"kept": patches,
    python -m tests.bench.study probe SOURCE WORKERS                "epoch_s", "loop_s"}

A script is what a user without a platform runs, one process per phase: images augmented one by one
by torchvision on PIL images, batched by a DataLoader, through the product's model in loops as plain
as a page has them. No checkpoint, no curve, no evaluation, all threads of the machine.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import mean

import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from .compare import ROOT, Row, answers, laptop

STUDY = ROOT / "studies" / "mask_ratio.yaml"
RATIOS = (0.1, 0.5, 0.9)  # masked shares that are timed; steps of others lie between
PHASES = ("pretrain", "linear_probe")
CACHED = "linear_probe.protocol=cached"  # the probe of the scripts, too
WORKERS = (0, 2)  # of a DataLoader: the faster is taken
WARM_UP, STEPS = 5, {"pretrain": 30, "probe": 8}  # a DataLoader begins with batches in stock


def study(rounds: int) -> list[Row]:
    """Runs the study once with one seed, and times the parts of its scripts."""
    from mae_ablation.api import plan_study

    with tempfile.TemporaryDirectory() as folder:
        words = ["run", STUDY, "--local", "--seeds", 1, "--phases", ",".join(PHASES)]
        words += ["--set", CACHED, "--store", f"{folder}/store", "--reports", f"{folder}/reports"]
        began = time.perf_counter()
        command = [sys.executable, "-m", "mae_ablation", *map(str, words)]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        wall_s = time.perf_counter() - began
        plan = plan_study(STUDY, store=f"{folder}/store", changes=[CACHED], seeds=1, phases=PHASES)
        results = [phase.folder(plan.store).result() for t in plan.trials for phase in t.phases]
    lanes = max(result["lanes"] for result in results)
    theirs = [scripts_s(plan.trials, timed_parts()) for _ in range(min(rounds, 3))]
    training_s = sum(result["seconds"] for result in results)
    return [
        Row(
            what="study mask_ratio, recipe laptop, one seed: from the command to its table",
            against="the same trials as sequential scripts, one process per phase",
            ours=[wall_s] * len(theirs),
            theirs=theirs,
            note=f"Ours: one real run on {lanes} lanes from an empty store. Theirs is computed "
            "from measured parts: start of the process, epochs of pre-training at "
            f"{', '.join(f'{ratio:.0%}' for ratio in RATIOS)} masked (others by the patches kept), "
            "epochs of a linear probe that encodes every image in each; without evaluations, "
            "checkpoints and a table, which ours has.",
        ),
        Row(
            what="the same study, lanes x seconds from the command to its end",
            against="seconds of its trainings alone",
            ours=[lanes * wall_s],
            theirs=[training_s],
            note="Lost are the starts of Python, Ray and lanes, models, checkpoints, pictures, "
            "validation, waiting for the other lane's last trial, and the report.",
        ),
    ]


def scripts_s(trials, parts: tuple[dict[int, float], dict[str, float], float]) -> float:
    """Returns the seconds of some trials as scripts, one process after the other."""
    pretrain_epoch_s, probe_epoch_s, start_s = parts
    total = 0.0
    for trial in trials:
        recipe = trial.recipe
        if trial.source == "pretrain":
            epoch_s = between(pretrain_epoch_s, recipe.kept_patches)
            total += start_s + recipe.pretrain.epochs * epoch_s
        probe_s = probe_epoch_s["pixels" if trial.source == "pixels" else "random"]
        total += start_s + recipe.linear_probe.epochs * probe_s
    return total


def between(known: dict[int, float], x: int) -> float:
    """Reads a value off the straight lines through known points."""
    pairs = list(pairwise(sorted(known.items())))
    (x0, y0), (x1, y1) = next((pair for pair in pairs if x <= pair[1][0]), pairs[-1])
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def timed_parts() -> tuple[dict[int, float], dict[str, float], float]:
    """Times epochs of pre-training by kept patches and of the probe by what it sees, and the start
    of a process, each in a process of its own."""

    def timed(phase: str, what: object) -> dict:
        found = []
        for workers in WORKERS:
            began = time.perf_counter()
            (answer,) = answers("study", (phase, what, workers))
            start_s = time.perf_counter() - began - answer["loop_s"]
            found.append({**answer, "start_s": start_s})
        return min(found, key=lambda each: each["epoch_s"])

    trained = [timed("pretrain", ratio) for ratio in RATIOS]
    probed = {source: timed("probe", source) for source in ("random", "pixels")}
    return (
        {said["kept"]: said["epoch_s"] for said in trained},
        {source: said["epoch_s"] for source, said in probed.items()},
        mean(said["start_s"] for said in (*trained, *probed.values())),
    )


# the scripts -------------------------------------------------------------------------------------


class Decoded(Dataset):
    """Images in memory, shown one by one as PIL images through a transform."""

    def __init__(self, split, transform: Callable) -> None:
        self.images, self.labels = split.images.numpy(), split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]  # (c, s, s) uint8
        plane = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        return self.transform(Image.fromarray(plane)), self.labels[index]


def loader_of(data, augmentation: list[Callable], batch_size: int, workers: int) -> DataLoader:
    last = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    return DataLoader(
        Decoded(data.train, transforms.Compose([*augmentation, *last])),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def pretrain(recipe, workers: int) -> tuple[DataLoader, Callable, torch.optim.Optimizer]:
    """Sets up masked pre-training: batches, the loss of one, the optimiser."""
    from mae_ablation.data.dataset import load_dataset
    from mae_ablation.train.models import build_model, load_target
    from mae_ablation.train.optim import decay_groups, scaled_lr

    settings, data, side = recipe.pretrain, load_dataset(recipe.data), recipe.data.image_size
    crop = transforms.RandomCrop(side, padding=side // 8)  # the recipe's crop_fixed
    augmentation = [crop, transforms.RandomHorizontalFlip()]
    target, _ = load_target(recipe, None, data, "cpu")
    model = build_model(recipe, data.channels, 0, target)
    lr = scaled_lr(settings.base_lr, settings.batch_size)
    optimizer = torch.optim.AdamW(decay_groups(model, settings.weight_decay), lr=lr)

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shuffle = torch.rand(len(images), recipe.patches).argsort(dim=1)
        return model(images, shuffle, recipe.kept_patches)

    return loader_of(data, augmentation, settings.batch_size, workers), loss, optimizer


def probe(recipe, workers: int, source: str) -> tuple[DataLoader, Callable, torch.optim.Optimizer]:
    """Sets up a linear classifier on an encoder of the recipe's shape ("random") or "pixels"."""
    from mae_ablation.data.dataset import load_dataset
    from mae_ablation.train.models import build_model

    settings, data = recipe.linear_probe, load_dataset(recipe.data)
    model = build_model(recipe, data.channels, 0).eval()
    pixels = data.channels * recipe.data.image_size**2
    width = pixels if source == "pixels" else recipe.model.encoder_width
    head = torch.nn.Linear(width, data.classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            if source == "pixels":
                features = images.flatten(1)
            else:
                features = model.features(images, settings.pooling)
        return F.cross_entropy(head(features), labels)

    batch_size = min(settings.batch_size, len(data.train))
    return loader_of(data, [], batch_size, workers), loss, optimizer


def main(phase: str, what: str, workers: str, recipe=None) -> None:
    """Trains some steps and prints what an epoch and all these steps took."""
    recipe = recipe or laptop()
    if phase == "pretrain":
        recipe = replace(recipe, pretrain=replace(recipe.pretrain, mask_ratio=float(what)))
        loader, loss, optimizer = pretrain(recipe, int(workers))
    else:
        loader, loss, optimizer = probe(recipe, int(workers), what)
    times = [time.perf_counter()]
    while len(times) <= WARM_UP + STEPS[phase]:
        for images, labels in loader:
            value = loss(images, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            times.append(time.perf_counter())
    timed = times[WARM_UP:]
    epoch_s = (timed[-1] - timed[0]) / (len(timed) - 1) * len(loader)
    loop_s = times[-1] - times[0]
    print(json.dumps({"kept": recipe.kept_patches, "epoch_s": epoch_s, "loop_s": loop_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])

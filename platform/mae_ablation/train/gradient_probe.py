"""Linear probe, protocols `cached` and `paper`: a classifier trained by SGD or LARS.

Features pass a batch normalisation without affine parameters first, so that one learning rate
serves every row of an ablation.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch
from timm.optim.lars import Lars
from torch import nn
from torch.nn import functional as F

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.augmentations import CropRandom
from mae_ablation.data.feed import Feed
from mae_ablation.recipe.cost import encoder_flops, training_flops
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.evaluation import ENCODE_BATCH, Job, accuracy
from mae_ablation.train.evaluations.linear_probe import LinearProbe
from mae_ablation.train.meter import Meter
from mae_ablation.train.optim import OptimizerStep, generator, lr_at, scaled_lr, set_lr


class Head(nn.Module):
    """Batch normalisation without affine parameters (eps 1e-6), then a linear layer."""

    def __init__(self, width: int, classes: int, rng: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01, generator=rng)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (n, width) to logits (n, classes)."""
        return self.linear(self.norm(features))

    @torch.no_grad()
    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """Classify features (n, width); returns classes (n,) on the CPU."""
        self.eval()
        predicted = self(features).argmax(dim=1).cpu()
        self.train()
        return predicted


def probe_optimizer(settings: LinearProbe, head: Head, lr: float) -> torch.optim.Optimizer:
    """Make LARS for the paper's protocol (bias without trust ratio and decay), else SGD."""
    how = {"lr": lr, "momentum": settings.momentum, "weight_decay": settings.weight_decay}
    if settings.protocol == "cached":
        return torch.optim.SGD(head.parameters(), **how)
    # LARS as in the paper's appendix: no trust ratio, no decay for the bias
    matrices = {"params": [head.linear.weight], "always_adapt": True}
    vectors = {"params": [head.linear.bias], "weight_decay": 0.0}
    return Lars([matrices, vectors], trust_coeff=0.001, **how)


def gradient_probe(job: Job, kind: str) -> dict:
    """Train the classifier by SGD or LARS, or resume. Test accuracy is that of the last epoch.

    Args:
        kind: name of the evaluation.
    """
    recipe, seed, run, data = job.recipe, job.seed, job.run, job.data
    settings, workers, device = getattr(recipe, kind), run.workers, run.device
    name, began = run.prefix or kind, time.perf_counter()

    # frozen features: of training images once (cached), or of new crops in every epoch (paper)
    validation, test = job.features(data.validation), job.features(data.test)
    cached = settings.protocol == "cached"
    seen = job.labelled(settings.labels)
    train = job.features(seen) if cached else None
    labels = seen.labels.to(device)
    order_rng, augment_rng = (generator(seed, f"probe/{s}") for s in ("order", "augment"))

    # classifier and optimiser; the last incomplete batch of an epoch is dropped
    head = Head(test.shape[1], data.classes, generator(seed, "probe/init")).to(device)
    batch_size, epochs = min(settings.batch_size, len(labels)), settings.epochs
    steps = len(labels) // batch_size
    peak_lr = scaled_lr(settings.base_lr, batch_size)
    lr_schedule = partial(lr_at, peak=peak_lr, warmup=settings.warmup_epochs, epochs=epochs)
    optimizer = probe_optimizer(settings, head, peak_lr)

    # where an earlier attempt stopped; encoding is part of the probe's time
    meter = Meter(run, epochs, steps)
    saved = {"head": head, "optimizer": optimizer}
    replayed = {"order": order_rng, "augment": augment_rng}
    checkpoints = Checkpoints(run, meter, saved, settings.checkpoint_every_s, replayed)
    checkpoints.resume()
    meter.train_seconds += time.perf_counter() - began
    update = OptimizerStep(optimizer, meter)

    # the paper's protocol: workers encode parts of every batch and share the features
    view = View(
        augmentation=CropRandom(),
        crop_min_area=settings.crop_min_area,
        crop_drawn_once=True,
        image_size=settings.image_size,
    )
    feed = Feed(seen, view, device, workers=recipe.data.workers)

    def own_rows(n: int) -> list[torch.Tensor]:
        """List this worker's rows of a batch, in parts that the encoder takes."""
        return list(torch.arange(n).split(ENCODE_BATCH)[workers.own_batches])

    def features(order: torch.Tensor, skip: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of features and labels in this order, the first ones left out."""
        batches = order[: steps * batch_size].split(batch_size)
        if cached:
            yield from ((train[index], labels[index]) for index in batches[skip:])
            return
        rows = own_rows(batch_size)
        shown = feed.batches(batches, augment_rng, skip=skip, shares=own_rows)
        for index in batches[skip:]:
            parts = [job.encode(normalise(next(shown)[0], data.mean, data.std)) for _ in rows]
            yield workers.gather_rows(rows, parts, batch_size).to(device), labels[index]

    head.train()
    for epoch in range(meter.epoch, epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(labels), generator=order_rng)

        for step, (inputs, wanted) in enumerate(features(order, meter.step), start=meter.step):
            set_lr(optimizer, lr_schedule(epoch + step / steps))
            for _ in update.micro_batches():
                update.backward(F.cross_entropy(head(inputs), wanted))
            update.apply()
            checkpoints.after_step()

        # end of the epoch: curve, checkpoint, progress
        loss, seconds = meter.finish_epoch()
        validation_acc1 = accuracy(head.predict(validation), data.validation.labels)
        point = {
            f"{name}/loss": loss,
            f"{name}/lr": optimizer.param_groups[0]["lr"],
            f"{name}/epoch": meter.epoch,
            f"{name}/validation_acc1": round(validation_acc1, 3),
        }
        run.log(meter.global_step, point)
        checkpoints.after_epoch()
        run.report_epoch(name, meter.epoch, epochs, loss, steps * batch_size, seconds)

    # the test split, once, after the last epoch
    # features encoded once cost nothing per epoch, so they are left out of the FLOPs per image
    patches = recipe.patches_at(settings.image_size)
    forward = encoder_flops(recipe, data.channels, patches) if job.source != "pixels" else 0
    products = 2 * test.shape[1] * data.classes
    head_flops = training_flops(products, products)
    return {
        **job.save_predictions(head.predict(test)),
        "validation_acc1": accuracy(head.predict(validation), data.validation.labels),
        "train_loss": run.last_logged(f"{name}/loss"),
        "epochs": epochs,
        "seconds": meter.train_seconds,
        "images_per_s": epochs * steps * batch_size / meter.train_seconds,
        "flops_per_image": head_flops + (0 if cached else forward),
        "encoder_flops_per_image": forward,
    }

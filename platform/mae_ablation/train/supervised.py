"""Training of a classifier end to end: of a pre-trained encoder, its last blocks, or a new one.

RandAugment, random erasing and averaged weights are timm's; classifier.py has the model.
"""

from functools import partial

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.augmentations import CropRandom
from mae_ablation.data.dataset import Dataset, FileSplit, Split, load_dataset
from mae_ablation.data.feed import Feed, plain
from mae_ablation.errors import UserError
from mae_ablation.recipe.cost import embed_flops, encoder_flops, training_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.classifier import (
    Mix,
    build_classifier,
    freeze_all_but_last,
    layer_decay_adamw,
    seed_step,
)
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.evaluation import accuracy, draw_labelled_images, save_predictions
from mae_ablation.train.evaluations.finetune import Finetune
from mae_ablation.train.meter import Meter
from mae_ablation.train.optim import generator, lr_at, scaled_lr, set_lr
from mae_ablation.train.precision import Precision
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.step import OptimizerStep

FINAL_LR = 1e-6  # where the cosine ends, in the official code
PREDICT_BATCH = 512  # images


def supervised(
    recipe: Recipe, kind: str, seed: int, run: PhaseRun, upstream: PhaseFolder | None
) -> dict:
    """Train the classifier, or resume its training; returns the content of `result.json`.

    Test accuracy is that of the last epoch (of the averaged weights where `ema` is set).

    Args:
        kind: the evaluation, which is a section of the recipe.
        upstream: the finished pre-training; None: initial weights.

    Raises:
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
        UserError: the batch cannot be divided evenly among the workers.
    """
    from timm.data.random_erasing import RandomErasing
    from timm.utils import ModelEmaV3

    settings: Finetune = getattr(recipe, kind)
    name, workers, device = run.prefix or kind, run.workers, run.device
    reset_peak_memory(device)

    # data
    data = load_dataset(recipe.data)
    train = draw_labelled_images(data, settings.labels, seed)
    batch_size, epochs = min(settings.batch_size, len(train) // 2 * 2), settings.epochs
    steps = len(train) // batch_size  # the last incomplete batch is dropped
    parts = workers.micro_batches(batch_size)
    if settings.randaugment_magnitude and data.channels not in (1, 3):
        message = f"RandAugment needs 1 or 3 channels, the images have {data.channels}"
        raise UserError(f"{message}: set {kind}.randaugment_magnitude=0")
    view = View(
        augmentation=CropRandom(),
        crop_min_area=settings.crop_min_area,
        randaugment_magnitude=settings.randaugment_magnitude,
        randaugment_fill=data.mean,
        image_size=settings.image_size,
    )
    feed = Feed(train, view, device, workers=recipe.data.workers)
    erase = RandomErasing(settings.random_erasing, mode="pixel", device=device)
    mix = Mix(settings, data.classes)
    order_rng, augment_rng = (generator(seed, f"{kind}/{s}") for s in ("order", "augment"))

    # model
    model = build_classifier(recipe, settings, data, seed, upstream).to(device)
    if (blocks := getattr(settings, "blocks", None)) is not None:
        freeze_all_but_last(model, blocks)
    averaged = ModelEmaV3(model, decay=settings.ema) if settings.ema else None
    patches = recipe.patches_at(settings.image_size)
    flops = training_flops(
        encoder_flops(recipe, data.channels, patches), embed_flops(recipe, data.channels, patches)
    )

    # optimiser
    precision = Precision(settings.precision, device)
    peak_lr = scaled_lr(settings.base_lr, batch_size)
    lr_schedule = partial(
        lr_at, peak=peak_lr, warmup=settings.warmup_epochs, epochs=epochs, final=FINAL_LR
    )
    optimizer = layer_decay_adamw(model, settings, peak_lr)

    # where an earlier attempt stopped
    meter = Meter(run, epochs, steps)
    checkpoints = Checkpoints(
        run=run,
        meter=meter,
        parts={"model": model, "optimizer": optimizer, **precision.parts}
        | ({"averaged": averaged.module} if averaged else {}),
        replayed={"order": order_rng, "augment": augment_rng},
        every_s=settings.checkpoint_every_s,
    )
    checkpoints.resume()

    # by one worker or several
    model.train()
    trained = workers.wrap(model)
    update = OptimizerStep(
        optimizer=optimizer,
        meter=meter,
        precision=precision,
        parts=parts,
        workers=workers,
        model=trained,
    )

    # evaluation
    evaluated = averaged.module if averaged else model
    validated = validation_epochs(epochs, len(train), len(data.validation))
    predict = partial(predict_split, evaluated, settings, recipe, data, run, precision)

    def speed(images_per_s: float) -> dict[str, float]:
        """Model FLOPs utilisation; not of partial tuning, whose backward pass is a part."""
        if blocks is not None:
            return {}
        return {"mfu": run.mfu(flops * images_per_s, settings.precision)}

    for epoch in range(meter.epoch, epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(train), generator=order_rng)
        batches = feed.batches(
            order[: steps * batch_size].split(batch_size),
            augment_rng,
            skip=meter.step,
            shares=lambda n: [part.rows for part in parts],
        )

        for step in range(meter.step, steps):
            set_lr(optimizer, lr_schedule(epoch + step / steps))

            # gradients
            for micro_batch in update.micro_batches():
                pixels, labels = next(batches)
                seed_step(seed, name, epoch * steps + step, micro_batch.number)
                images = erase(normalise(pixels, data.mean, data.std))
                images, targets = mix(images, labels)
                with precision.autocast():
                    scores = trained(images)
                update.backward(mix.loss(scores.float(), targets))

            # weights
            update.apply()
            if averaged:
                averaged.update(model)
            checkpoints.after_step()

        # end of the epoch: curve, checkpoint, progress
        loss, seconds = meter.finish_epoch()
        point = {
            f"{name}/loss": loss,
            f"{name}/lr": max(group["lr"] for group in optimizer.param_groups),
            f"{name}/epoch": meter.epoch,
            **{f"{name}/{k}": v for k, v in speed(steps * batch_size / seconds).items()},
        }
        if meter.epoch in validated:
            predicted = predict(data.validation)
            point[f"{name}/validation_acc1"] = accuracy(predicted, data.validation.labels)
        run.log(meter.global_step, point)
        checkpoints.after_epoch()
        run.report_epoch(name, meter.epoch, epochs, loss, steps * batch_size, seconds)

    # the test split, once, after the last epoch
    images_per_s = epochs * steps * batch_size / meter.train_seconds
    return {
        **save_predictions(run, predict(data.test), data.test.labels, data.classes),
        "validation_acc1": run.last_logged(f"{name}/validation_acc1"),
        "train_loss": run.last_logged(f"{name}/loss"),
        "epochs": epochs,
        "tuned_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": meter.train_seconds,
        "images_per_s": images_per_s,
        "flops_per_image": flops,
        **speed(images_per_s),
        **run.describe(),
    }


def validation_epochs(epochs: int, trained_images: int, validation_images: int) -> list[int]:
    """List the epochs after which validation accuracy is measured.

    That is the last one, and of the others as many as leave fewer images to be classified than
    trained on: with few labels an epoch would otherwise spend more on validation than on training.
    """
    every = -(-validation_images // trained_images)
    return [epoch for epoch in range(1, epochs + 1) if epoch % every == 0 or epoch == epochs]


@torch.no_grad()
def predict_split(
    model: nn.Module,
    settings: Finetune,
    recipe: Recipe,
    data: Dataset,
    run: PhaseRun,
    precision: Precision,
    split: Split | FileSplit,
) -> torch.Tensor:
    """Classify a split with all workers; returns classes (n,) on the CPU."""
    batches = plain(
        split,
        run.device,
        PREDICT_BATCH,
        image_size=settings.image_size,
        workers=recipe.data.workers,
        turns=run.workers.own_batches,
    )
    training = model.training
    model.eval()
    parts = []
    for pixels, _ in batches:
        with precision.autocast():
            scores = model(normalise(pixels, data.mean, data.std))
        parts.append(scores.argmax(dim=1, keepdim=True).float())  # exact below 2^24 classes
    model.train(training)
    rows = list(torch.arange(len(split)).split(PREDICT_BATCH)[run.workers.own_batches])
    return run.workers.gather_rows(rows, parts, len(split))[:, 0].long().cpu()

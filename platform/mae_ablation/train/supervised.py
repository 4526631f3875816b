"""Training of a classifier end to end: of a pre-trained encoder, its last blocks, or a new one.

RandAugment, random erasing and averaged weights are timm's; classifier.py has the model.
"""

from functools import partial

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.augmentations import CropRandom
from mae_ablation.data.dataset import FileSplit, Split
from mae_ablation.data.feed import Feed
from mae_ablation.recipe.cost import (
    classifier_memory,
    embed_flops,
    encoder_flops,
    training_flops,
)
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.classifier import (
    Mix,
    build_classifier,
    freeze_all_but_last,
    layer_decay_adamw,
    seed_step,
)
from mae_ablation.train.evaluation import Job, accuracy
from mae_ablation.train.evaluations.finetune import Finetune
from mae_ablation.train.meter import Meter
from mae_ablation.train.optim import OptimizerStep, generator, lr_at, scaled_lr, set_lr
from mae_ablation.train.precision import NumberFormat

FINAL_LR = 1e-6  # where the cosine ends, in the official code


def supervised(job: Job, kind: str) -> dict:
    """Train the classifier, or resume its training.

    Test accuracy is that of the last epoch (of the averaged weights where `ema` is set).

    Args:
        kind: the evaluation, which is a section of the recipe.
    """
    from timm.data.random_erasing import RandomErasing
    from timm.utils import ModelEmaV3

    recipe, seed, run, data = job.recipe, job.seed, job.run, job.data
    settings: Finetune = getattr(recipe, kind)
    name, workers, device = run.prefix or kind, run.workers, run.device

    # data; the last incomplete batch of an epoch is dropped
    train = job.labelled(settings.labels)
    batch_size, epochs = min(settings.batch_size, len(train) // 2 * 2), settings.epochs
    steps = len(train) // batch_size
    parts = run.divide_batch(batch_size, classifier_memory(recipe, settings, data.channels))
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
    # streams by the evaluation's name: fine-tuning and scratch see other orders
    order_rng, augment_rng = (generator(seed, f"{kind}/{s}") for s in ("order", "augment"))

    # model
    model = build_classifier(recipe, settings, data, seed, job.upstream).to(device)
    if (blocks := getattr(settings, "blocks", None)) is not None:
        freeze_all_but_last(model, blocks)
    averaged = ModelEmaV3(model, decay=settings.ema) if settings.ema else None
    patches = recipe.patches_at(settings.image_size)
    flops = training_flops(
        encoder_flops(recipe, data.channels, patches), embed_flops(recipe, data.channels, patches)
    )

    # optimiser
    precision = NumberFormat(settings.precision, device)
    peak_lr, warmup = scaled_lr(settings.base_lr, batch_size), settings.warmup_epochs
    lr_schedule = partial(lr_at, peak=peak_lr, warmup=warmup, epochs=epochs, final=FINAL_LR)
    optimizer = layer_decay_adamw(model, settings, peak_lr)

    # where an earlier attempt stopped
    meter = Meter(run, epochs, steps)
    saved = {"model": model, "optimizer": optimizer, **precision.parts}
    if averaged:
        saved["averaged"] = averaged.module
    replayed = {"order": order_rng, "augment": augment_rng}
    checkpoints = Checkpoints(run, meter, saved, settings.checkpoint_every_s, replayed)
    checkpoints.resume()

    # by one worker or several
    model.train()
    trained = workers.wrap(model)
    update = OptimizerStep(optimizer, meter, precision, parts, workers, trained)

    # evaluation; MFU is not said of partial tuning, whose backward pass ends early
    evaluated = averaged.module if averaged else model
    validated = validation_epochs(epochs, len(train), len(data.validation))
    predict = partial(predict_split, job, evaluated, settings.image_size, precision)

    def mfu(images_per_s: float) -> dict[str, float]:
        full = blocks is None
        return {"mfu": run.mfu(flops * images_per_s, settings.precision)} if full else {}

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
            **{f"{name}/{k}": v for k, v in mfu(steps * batch_size / seconds).items()},
        }
        if meter.epoch in validated:
            predicted = predict(data.validation)
            point[f"{name}/validation_acc1"] = accuracy(predicted, data.validation.labels)
        run.log(meter.global_step, point)
        checkpoints.after_epoch()
        run.report_epoch(name, meter.epoch, epochs, loss, steps * batch_size, seconds)

    # the test split, once, after the last epoch
    # rates are of the training's own seconds: evaluation and checkpoints are left out
    images_per_s = epochs * steps * batch_size / meter.train_seconds
    return {
        **job.save_predictions(predict(data.test)),
        "validation_acc1": run.last_logged(f"{name}/validation_acc1"),
        "train_loss": run.last_logged(f"{name}/loss"),
        "epochs": epochs,
        "tuned_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": meter.train_seconds,
        "images_per_s": images_per_s,
        "flops_per_image": flops,
        **mfu(images_per_s),
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
    job: Job,
    model: nn.Module,
    image_size: int | None,
    precision: NumberFormat,
    split: Split | FileSplit,
) -> torch.Tensor:
    """Classify a split with all workers; returns classes (n,) on the CPU."""

    def classify(images: torch.Tensor) -> torch.Tensor:
        with precision.autocast():
            scores = model(images)
        return scores.argmax(dim=1, keepdim=True).float()  # exact below 2^24 classes

    # averaged weights stay in evaluation mode, trained ones go back to training
    training = model.training
    model.eval()
    predicted = job.map_split(split, classify, image_size)
    model.train(training)
    return predicted[:, 0].long().cpu()

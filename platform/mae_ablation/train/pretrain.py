"""Phase `pretrain`: masked pre-training (paper, section 3 and Table 8).

The loss is `MaskedAutoencoder.forward` (mae/model.py).
"""

from functools import partial

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.feed import Feed
from mae_ablation.data.transfer import send
from mae_ablation.mae.masking import require_permutations
from mae_ablation.recipe.batch import limit_micro_batch
from mae_ablation.recipe.cost import pretrain_flops, pretrain_memory
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import ask
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.trial import steps_per_epoch
from mae_ablation.train.ahead import draw_ahead
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.meter import Meter
from mae_ablation.train.models import build_model, load_target
from mae_ablation.train.optim import (
    OptimizerStep,
    decay_groups,
    generator,
    lr_at,
    scaled_lr,
    set_lr,
)
from mae_ablation.train.pictures import EpochPictures
from mae_ablation.train.precision import NumberFormat
from mae_ablation.train.run import PhaseRun


def pretrain(recipe: Recipe, seed: int, run: PhaseRun, upstream: PhaseFolder | None = None) -> dict:
    """Train the model, or resume its training; returns the content of `result.json`.

    Args:
        upstream: the finished PCA or tokeniser, for a target that needs one.

    Raises:
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
        UserError: the batch cannot be divided evenly among the workers.
        ValueError: a batch is larger than the training split.
    """
    settings, workers, device = recipe.pretrain, run.workers, run.device
    on_gpu = device.startswith("cuda")
    run.begin_measuring(settings.precision)

    # data; the last incomplete batch of an epoch is dropped
    data = load_dataset(recipe.data)
    batch_size, epochs = settings.batch_size, settings.epochs
    steps = steps_per_epoch(recipe, len(data.train))
    if steps == 0:
        raise ValueError(
            f"pretrain.batch_size {batch_size} is above the {len(data.train)} training images"
        )
    at_most = limit_micro_batch(recipe, workers.size, workers.micro_batch, on_gpu)
    parts = run.divide_batch(batch_size, pretrain_memory(recipe, data.channels), at_most)
    view = View(augmentation=recipe.augmentation, crop_min_area=settings.crop_min_area)
    feed = Feed(data.train, view, device, workers=recipe.data.workers)
    require_permutations(recipe)
    order_rng, augment_rng, mask_rng = (generator(seed, s) for s in ("order", "augment", "mask"))

    # model
    target, from_images = load_target(recipe, upstream, data, device)
    model = build_model(recipe, data.channels, seed, target).to(device)
    flops = pretrain_flops(recipe, data.channels)

    # optimiser
    precision = NumberFormat(settings.precision, device)
    peak_lr, betas = scaled_lr(settings.base_lr, batch_size), (settings.beta1, settings.beta2)
    lr_schedule = partial(lr_at, peak=peak_lr, warmup=settings.warmup_epochs, epochs=epochs)
    groups = decay_groups(model, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=peak_lr, betas=betas, fused=True)

    # where an earlier attempt stopped
    meter = Meter(run, epochs, steps)
    saved = {"model": model, "optimizer": optimizer, **precision.parts}
    replayed = {"order": order_rng, "augment": augment_rng}
    checkpoints = Checkpoints(
        run, meter, saved, settings.checkpoint_every_s, replayed, {"mask": mask_rng}
    )
    checkpoints.resume()
    pictures = EpochPictures(recipe, model, data, run)

    # compiled or not, by one worker or several; a curriculum of ratios has a graph for each
    model.train()
    shapes = len({recipe.kept_at(epoch) for epoch in range(meter.epoch, epochs)})
    trained = workers.wrap(compile_model(model, shapes) if settings.compile else model)
    update = OptimizerStep(optimizer, meter, precision, parts, workers, trained)

    sampler = recipe.sampler

    def draw_masks(epoch: int, kept: int, rng: torch.Generator) -> torch.Tensor:
        given = (batch_size, model.grid, kept, rng)
        return ask(sampler.shuffle, *given, epoch=epoch, epochs=epochs)

    for epoch in range(meter.epoch, epochs):
        checkpoints.begin_epoch()
        kept = recipe.kept_at(epoch)
        order = torch.randperm(len(data.train), generator=order_rng)
        batches = feed.batches(
            order[: steps * batch_size].split(batch_size),
            augment_rng,
            skip=meter.step,
            shares=lambda n: [part.rows for part in parts],
        )

        draw, left = partial(draw_masks, epoch, kept), steps - meter.step
        masks = draw_ahead(draw, mask_rng, left, in_thread=on_gpu)

        for step in range(meter.step, steps):
            set_lr(optimizer, lr_schedule(epoch + step / steps))
            shuffles = next(masks)

            # gradients
            for micro_batch in update.micro_batches():
                pixels, _ = next(batches)
                images = normalise(pixels, data.mean, data.std)
                shuffle = send(shuffles[micro_batch.rows], device)
                given = from_images(pixels) if from_images else None
                with precision.autocast():
                    loss = trained(images, shuffle, kept, given)
                update.backward(loss)

            # weights
            update.apply()
            checkpoints.after_step()

        # end of the epoch: curve, picture, checkpoint, progress
        loss, seconds = meter.finish_epoch()
        images_per_s = steps * batch_size / seconds
        point = {
            "pretrain/loss": loss,
            "pretrain/lr": optimizer.param_groups[0]["lr"],
            "pretrain/epoch": meter.epoch,
            "pretrain/images_per_s": round(images_per_s, 1),
            "pretrain/mfu": run.mfu(flops * images_per_s, settings.precision),
        }
        run.log(meter.global_step, point)
        pictures.draw_after(meter.epoch, meter.global_step)
        checkpoints.after_epoch()  # after the picture: what is drawn twice is the same
        run.report_epoch("pretrain", meter.epoch, epochs, loss, steps * batch_size, seconds)

    # rates are of the training's own seconds: pictures and checkpoints are left out
    images_per_s = epochs * steps * batch_size / meter.train_seconds
    return {
        "train_loss": run.last_logged("pretrain/loss"),
        "epochs": epochs,
        "seconds": meter.train_seconds,
        "images_per_s": images_per_s,
        "flops_per_image": flops,
        "flops_per_s": flops * images_per_s,
        "mfu": run.mfu(flops * images_per_s, settings.precision),
        "compiled": settings.compile and was_compiled(shapes),
        **run.describe(),
    }


def compile_model(model: nn.Module, shapes: int) -> nn.Module:
    """Compile the model's forward and backward pass, which happens in its first step.

    A lane trains one shape after another. What torch compiled for earlier ones is dropped, or it
    would count towards torch's limit on recompilations, beyond which a model runs uncompiled.
    """
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, shapes)
    return torch.compile(model, dynamic=False)


def was_compiled(shapes: int) -> bool:
    """Tell whether torch made a graph of every shape since `compile_model`."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"] >= max(1, shapes)

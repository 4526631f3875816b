"""Phase `pretrain`: masked pre-training (paper, section 3 and Table 8)."""

import math
import time

import torch

from mae_ablation.data.augment import boxes_for, prepare
from mae_ablation.data.dataset import load
from mae_ablation.mae.initialise import initialise
from mae_ablation.mae.masking import random_shuffle
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.phases.optim import decay_groups, generator, lr_at, scaled_lr, set_lr
from mae_ablation.phases.run import Checkpoints, Diverged, PhaseRun, facts, reset_peak_memory
from mae_ablation.store import journal
from mae_ablation.study.cost import pretrain_flops, training_flops
from mae_ablation.study.recipe import Recipe


def build_model(recipe: Recipe, channels: int, seed: int) -> MaskedAutoencoder:
    """The recipe's model with the initial weights of a seed."""
    m = recipe.model
    model = MaskedAutoencoder(
        image_size=recipe.data.image_size,
        patch_size=m.patch_size,
        channels=channels,
        encoder_width=m.encoder_width,
        encoder_depth=m.encoder_depth,
        encoder_heads=m.encoder_heads,
        decoder_width=m.decoder_width,
        decoder_depth=m.decoder_depth,
        decoder_heads=m.decoder_heads,
        mlp_ratio=m.mlp_ratio,
        target=recipe.pretrain.target,
    )
    return initialise(model, generator(seed, "init/encoder"), generator(seed, "init/decoder"))


def pretrain(recipe: Recipe, seed: int, run: PhaseRun) -> dict:
    """Train, or go on training; returns what `result.json` holds.

    Raises:
        Diverged: the mean loss of an epoch is not finite.
        ValueError: a batch is larger than the training split.
    """
    settings = recipe.pretrain
    reset_peak_memory(run.device)

    # data
    data = load(recipe.data)
    images = data.train.images
    steps = len(images) // settings.batch_size  # the last incomplete batch is dropped
    if steps == 0:
        raise ValueError(
            f"pretrain.batch_size {settings.batch_size} is above the {len(images)} training images"
        )
    order_rng, augment_rng, mask_rng = (generator(seed, s) for s in ("order", "augment", "mask"))

    # model and optimiser
    model = build_model(recipe, data.channels, seed).to(run.device)
    peak_lr = scaled_lr(settings.base_lr, settings.batch_size)
    optimizer = torch.optim.AdamW(
        decay_groups(model, settings.weight_decay),
        lr=peak_lr,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )

    # where an earlier attempt stopped
    checkpoints = Checkpoints(
        run=run,
        parts={"model": model, "optimizer": optimizer},
        generators={"order": order_rng, "augment": augment_rng, "mask": mask_rng},
        every_s=settings.checkpoint_every_s,
    )
    first_epoch = checkpoints.resume()

    model.train()
    for epoch in range(first_epoch, settings.epochs):
        began = time.perf_counter()
        total = torch.zeros((), device=run.device)
        order = torch.randperm(len(images), generator=order_rng)
        for step in range(steps):
            set_lr(
                optimizer,
                lr_at(
                    epoch + step / steps,
                    peak=peak_lr,
                    warmup=settings.warmup_epochs,
                    epochs=settings.epochs,
                ),
            )

            # a batch, augmented and masked
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            boxes = boxes_for(
                settings.augmentation,
                len(index),
                recipe.data.image_size,
                settings.crop_min_area,
                augment_rng,
            )
            batch = images[index].to(run.device, non_blocking=True)
            batch = prepare(batch, boxes, data.mean, data.std)
            shuffle = random_shuffle(len(index), recipe.patches, mask_rng).to(run.device)

            # one optimiser step
            loss = model(batch, shuffle, recipe.kept_patches).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()

        # the end of an epoch: check, journal, checkpoint, tell
        loss = total.item() / steps
        seconds = time.perf_counter() - began
        done, step = epoch + 1, (epoch + 1) * steps
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} in epoch {done} of {settings.epochs} (step {step})")
        checkpoints.seconds += seconds
        rate = steps * settings.batch_size / seconds
        journal.append(
            run.folder.journal,
            step,
            {
                "pretrain/loss": loss,
                "pretrain/lr": optimizer.param_groups[0]["lr"],
                "pretrain/epoch": done,
                "pretrain/images_per_s": round(rate, 1),
            },
        )
        checkpoints.save(done, step, last=done == settings.epochs)
        run.report(
            {
                "phase": "pretrain",
                "epoch": done,
                "epochs": settings.epochs,
                "loss": loss,
                "images_per_s": rate,
                "seconds_left": (settings.epochs - done) * seconds,
            }
        )

    images_seen = settings.epochs * steps * settings.batch_size
    forward = pretrain_flops(recipe, data.channels)
    rate = images_seen / checkpoints.seconds
    return {
        "train_loss": journal.read(run.folder.journal)[-1]["m"]["pretrain/loss"],
        "epochs": settings.epochs,
        "seconds": checkpoints.seconds,
        "images_per_s": rate,
        "flops_per_image": training_flops(forward),
        "flops_per_s": training_flops(forward) * rate,
        **facts(run),
    }

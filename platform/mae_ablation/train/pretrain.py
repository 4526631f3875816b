"""Phase `pretrain`: masked pre-training (paper, section 3 and Table 8)."""

from functools import partial

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import load
from mae_ablation.data.feed import Feed
from mae_ablation.mae.masking import sample_shuffle
from mae_ablation.recipe.batch import images_at_once
from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.trial import steps_per_epoch
from mae_ablation.train.album import Album
from mae_ablation.train.ceiling import utilisation
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.facts import facts
from mae_ablation.train.memory import reset_peak_memory
from mae_ablation.train.meter import Meter
from mae_ablation.train.models import build_model, target_of
from mae_ablation.train.optim import decay_groups, generator, lr_at, scaled_lr, set_lr
from mae_ablation.train.precision import Precision
from mae_ablation.train.run import PhaseRun


def pretrain(recipe: Recipe, seed: int, run: PhaseRun, upstream: PhaseFolder | None = None) -> dict:
    """Train, or go on training; returns what `result.json` holds.

    `upstream` is the finished PCA or tokeniser of a target that needs one.

    Raises:
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
        UserError: the batch cannot be shared evenly by the workers.
        ValueError: a batch is larger than the training split.
    """
    settings, team = recipe.pretrain, run.team
    reset_peak_memory(run.device)

    # data
    data = load(recipe.data)
    batch_size = settings.batch_size
    steps = steps_per_epoch(recipe, len(data.train))
    if steps == 0:
        raise ValueError(
            f"pretrain.batch_size {batch_size} is above the {len(data.train)} training images"
        )
    on_gpu = run.device.startswith("cuda")
    at_most = images_at_once(recipe, team.size, team.batch_per_worker, on_gpu)
    shares = team.shares(batch_size, at_most)
    view = View(
        augmentation=settings.augmentation,
        crop_min_area=settings.crop_min_area,
    )
    feed = Feed(data.train, view, run.device, workers=recipe.data.workers)
    order_rng, augment_rng, mask_rng = (generator(seed, s) for s in ("order", "augment", "mask"))

    # model and optimiser
    target, tokens_of = target_of(recipe, upstream, data, run.device)
    model = build_model(recipe, data.channels, seed, target).to(run.device)
    precision = Precision(settings.precision, run.device)
    peak_lr = scaled_lr(settings.base_lr, batch_size)
    optimizer = torch.optim.AdamW(
        decay_groups(model, settings.weight_decay),
        lr=peak_lr,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )

    # where an earlier attempt stopped
    meter = Meter(run, settings.epochs, steps)
    checkpoints = Checkpoints(
        run=run,
        meter=meter,
        parts={"model": model, "optimizer": optimizer, **precision.parts},
        replayed={"order": order_rng, "augment": augment_rng},
        generators={"mask": mask_rng},
        every_s=settings.checkpoint_every_s,
    )
    checkpoints.resume()
    album = Album(recipe, model, data, run)
    model.train()

    # what is called: the loss, compiled or not, by one worker or several
    trained = team.wrap(compiled_by_torch(model) if settings.compile else model)
    flops = pretrain_flops(recipe, data.channels)

    def mfu(images_per_s: float) -> float:
        return utilisation(flops * images_per_s, run.device, settings.precision, team.size)

    for epoch in range(meter.epoch, settings.epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(data.train), generator=order_rng)
        batches = feed.batches(
            order[: steps * batch_size].split(batch_size),
            augment_rng,
            skip=meter.step,
            shares=lambda n: [share.rows for share in shares],
        )
        for step in range(meter.step, steps):
            set_lr(
                optimizer,
                lr_at(
                    epoch + step / steps,
                    peak=peak_lr,
                    warmup=settings.warmup_epochs,
                    epochs=settings.epochs,
                ),
            )
            shuffles = sample_shuffle(
                settings.mask_sampling,
                batch_size,
                model.grid,
                recipe.kept_patches,
                mask_rng,
            )

            # gradients of the batch, share by share: normalised, masked, reconstructed
            optimizer.zero_grad(set_to_none=True)
            mean_loss = torch.zeros((), device=run.device)
            for share in shares:
                pixels, _ = next(batches)
                batch = normalise(pixels, data.mean, data.std)
                shuffle = shuffles[share.rows].to(run.device, non_blocking=True)
                tokens = tokens_of(pixels) if tokens_of else None
                with team.averaging(trained, last=share is shares[-1]):
                    with precision.forward():
                        loss = trained(batch, shuffle, recipe.kept_patches, tokens) / len(shares)
                    precision.backward(loss)
                mean_loss += loss.detach()

            # one optimiser step
            precision.step(optimizer)
            meter.add(mean_loss)
            checkpoints.after_step()

        # the end of an epoch: check, journal, checkpoint, tell
        loss, seconds = meter.finish()
        done, step = meter.epoch, meter.global_step
        checkpoints.seconds += seconds
        rate = steps * batch_size / seconds
        run.note(
            step,
            {
                "pretrain/loss": loss,
                "pretrain/lr": optimizer.param_groups[0]["lr"],
                "pretrain/epoch": done,
                "pretrain/images_per_s": round(rate, 1),
                "pretrain/mfu": round(mfu(rate), 4),
            },
        )
        team.alone(partial(album.add, done, step))
        checkpoints.after_epoch()  # after the picture: what is drawn twice is the same
        run.tell("pretrain", done, settings.epochs, loss, steps * batch_size, seconds)

    images_seen = settings.epochs * steps * batch_size
    rate = images_seen / checkpoints.seconds
    return {
        "train_loss": run.last("pretrain/loss"),
        "epochs": settings.epochs,
        "seconds": checkpoints.seconds,
        "images_per_s": rate,
        "flops_per_image": flops,
        "flops_per_s": flops * rate,
        "mfu": round(mfu(rate), 4),
        "compiled": settings.compile and was_compiled(),
        **facts(run),
    }


def compiled_by_torch(model: nn.Module) -> nn.Module:
    """Compile the model's forward and backward pass, which happens in its first step.

    A lane trains one shape after another: what torch compiled for an earlier one is forgotten, else
    it would count towards its limit on recompilations.
    """
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    return torch.compile(model, dynamic=False)


def was_compiled() -> bool:
    """Whether torch made a graph since `compiled_by_torch`, and did not run the model as it is."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0

"""Phases `finetune`, `partial` and `scratch`: end-to-end training of a classifier.

finetune   of a pre-trained encoder, layer-wise learning rates (paper, Table 9)
partial    of its last blocks only (paper, Figure 9)
scratch    without pre-training (paper, Table 11)

Model, RandAugment, mixup, cutmix, random erasing, layer decay and averaged weights are timm's.
"""

import functools
from collections.abc import Iterator

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import Dataset, Files, Split, load
from mae_ablation.data.feed import Feed, plain
from mae_ablation.mae.checkpoints import timm_state
from mae_ablation.mae.positions import interpolate_positions
from mae_ablation.recipe.cost import embed_flops, encoder_flops, training_flops
from mae_ablation.recipe.evaluations import Finetune
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.answers import keep_answers
from mae_ablation.train.ceiling import utilisation
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.facts import facts
from mae_ablation.train.labels import labelled
from mae_ablation.train.memory import reset_peak_memory
from mae_ablation.train.meter import Meter
from mae_ablation.train.mix import Mix, seed_step
from mae_ablation.train.models import encoder_of
from mae_ablation.train.optim import generator, lr_at, scaled_lr, set_lr
from mae_ablation.train.precision import Precision
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.team import Team

FINAL_LR = 1e-6  # where the cosine ends, in the official code
HEAD_STD = 2e-5  # the official code's; nearly zero, so that training starts from equal scores
EVALUATED = 512  # images classified at a time


def validation_epochs(epochs: int, trained_images: int, validation_images: int) -> list[int]:
    """Epochs after which validation accuracy is measured: the last one, and of the others as many
    as leave fewer images to be classified than trained on.

    With few labels an epoch would otherwise spend more on validation than on training.
    """
    every = -(-validation_images // trained_images)
    return [epoch for epoch in range(1, epochs + 1) if epoch % every == 0 or epoch == epochs]


def classifier(
    recipe: Recipe,
    settings: Finetune,
    data: Dataset,
    seed: int,
    upstream: PhaseFolder | None,
) -> nn.Module:
    """timm's VisionTransformer with the encoder's weights, and a new head.

    With mean pooling the pre-trained last norm is left behind for a new one. Positions are
    trainable, and interpolated where the image size differs from pre-training's.
    """
    from timm.models.vision_transformer import VisionTransformer

    m = recipe.model
    size = settings.image_size or recipe.data.image_size
    model = VisionTransformer(
        img_size=size,
        patch_size=m.patch_size,
        in_chans=data.channels,
        num_classes=data.classes,
        embed_dim=m.encoder_width,
        depth=m.encoder_depth,
        num_heads=m.encoder_heads,
        mlp_ratio=m.mlp_ratio,
        class_token=m.class_token,
        global_pool="avg" if settings.pooling == "mean" else "token",
        drop_path_rate=settings.drop_path,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )
    state = timm_state(encoder_of(recipe, data.channels, seed, upstream))
    grid, new = (recipe.grid,) * 2, (size // m.patch_size,) * 2
    state["pos_embed"] = interpolate_positions(state["pos_embed"], grid, new, int(m.class_token))
    if settings.pooling == "mean":
        state = {name: value for name, value in state.items() if not name.startswith("norm.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    new_layers = ("head.", "fc_norm.")
    wrong = [name for name in missing if not name.startswith(new_layers)] + unexpected
    if wrong:
        raise ValueError(f"encoder and classifier differ in {', '.join(wrong[:3])}")
    nn.init.trunc_normal_(model.head.weight, std=HEAD_STD, generator=generator(seed, "head"))
    nn.init.zeros_(model.head.bias)
    return model


def tune_last(model: nn.Module, blocks: float) -> None:
    """Freeze all but the last blocks, the last norm and the head.

    0.5: of the last block only norm2 and the MLP. All blocks: everything is tuned.
    """
    if blocks == len(model.blocks):
        return
    model.requires_grad_(False)
    tuned: list[nn.Module] = [model.norm, model.fc_norm, model.head]
    if blocks == 0.5:
        tuned += [model.blocks[-1].norm2, model.blocks[-1].mlp]
    elif blocks >= 1:
        tuned += list(model.blocks[-int(blocks) :])
    for part in tuned:
        part.requires_grad_(True)


def optimizer_for(model: nn.Module, settings: Finetune, lr: float) -> torch.optim.Optimizer:
    """AdamW with layer-wise learning rates: decay^(depth + 1 - id), id 0 for embeddings and
    positions, i + 1 for block i, depth + 1 for what follows; vectors, positions and class token do
    not decay (official behaviour)."""
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(
        model,
        weight_decay=settings.weight_decay,
        no_weight_decay_list=model.no_weight_decay(),
        layer_decay=settings.layer_decay,
    )
    # timm counts the last norm to the last block; with class-token pooling it has weights
    last = [p for p in model.norm.parameters() if p.requires_grad]
    for group in groups if last else ():
        group["params"] = [p for p in group["params"] if all(p is not q for q in last)]
    if last:
        groups.append({"params": last, "weight_decay": 0.0, "lr_scale": 1.0})
    return torch.optim.AdamW(groups, lr=lr, betas=(settings.beta1, settings.beta2), fused=True)


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterator, data: Dataset, n: int, team: Team, precision: Precision
) -> torch.Tensor:
    """Classes (n,) of a split, on the CPU, out of every worker's batches of (pixels, labels)."""
    training = model.training
    model.eval()
    parts = []
    for pixels, _ in batches:
        with precision.forward():
            scores = model(normalise(pixels, data.mean, data.std))
        parts.append(scores.argmax(dim=1, keepdim=True).float())  # exact below 2^24 classes
    model.train(training)
    rows = list(torch.arange(n).split(EVALUATED)[team.turns])
    return team.assemble(rows, parts, n)[:, 0].long().cpu()


def supervised(
    recipe: Recipe, kind: str, seed: int, run: PhaseRun, upstream: PhaseFolder | None
) -> dict:
    """Train the classifier, or go on; returns what `result.json` holds.

    Test accuracy is that of the last epoch (of the averaged weights where `ema` is set).

    Args:
        kind: "finetune", "partial" or "scratch": the section of the recipe.
        upstream: the finished pre-training; None: initial weights.

    Raises:
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
        UserError: the batch cannot be shared evenly by the workers.
    """
    from timm.data.random_erasing import RandomErasing
    from timm.utils import ModelEmaV3

    settings: Finetune = getattr(recipe, kind)
    team = run.team
    reset_peak_memory(run.device)

    # data
    data = load(recipe.data)
    seen = labelled(data, settings.labels, seed)
    batch_size = min(settings.batch_size, len(seen) // 2 * 2)
    steps = len(seen) // batch_size  # the last incomplete batch is dropped
    shares = team.shares(batch_size)
    view = View(
        augmentation="crop_random",
        crop_min_area=settings.crop_min_area,
        randaugment_magnitude=settings.randaugment_magnitude,
        randaugment_fill=data.mean,
        image_size=settings.image_size,
    )
    feed = Feed(seen, view, run.device, workers=recipe.data.workers)
    order_rng, augment_rng = (generator(seed, f"{kind}/{s}") for s in ("order", "augment"))

    # model, loss and optimiser
    model = classifier(recipe, settings, data, seed, upstream).to(run.device)
    if kind == "partial":
        tune_last(model, recipe.partial.blocks)
    averaged = ModelEmaV3(model, decay=settings.ema) if settings.ema else None
    mix = Mix(settings, data.classes)
    erase = RandomErasing(settings.random_erasing, mode="pixel", device=run.device)
    precision = Precision(settings.precision, run.device)
    peak_lr = scaled_lr(settings.base_lr, batch_size)
    optimizer = optimizer_for(model, settings, peak_lr)

    # where an earlier attempt stopped
    parts = {"model": model, "optimizer": optimizer, **precision.parts}
    meter = Meter(run, settings.epochs, steps)
    checkpoints = Checkpoints(
        run=run,
        meter=meter,
        parts=parts | ({"averaged": averaged.module} if averaged else {}),
        replayed={"order": order_rng, "augment": augment_rng},
        every_s=settings.checkpoint_every_s,
    )
    checkpoints.resume()
    trained = team.wrap(model)
    evaluated = averaged.module if averaged else model

    def answers(split: Split | Files) -> torch.Tensor:
        batches = plain(
            split,
            run.device,
            EVALUATED,
            image_size=settings.image_size,
            workers=recipe.data.workers,
            turns=team.turns,
        )
        return predict(evaluated, batches, data, len(split), team, precision)

    def validation_accuracy() -> float:
        right = answers(data.validation) == data.validation.labels
        return 100 * right.double().mean().item()

    validated = validation_epochs(settings.epochs, len(seen), len(data.validation))
    patches = recipe.patches_at(settings.image_size)
    flops = training_flops(
        encoder_flops(recipe, data.channels, patches), embed_flops(recipe, data.channels, patches)
    )

    name = run.prefix or kind

    def speed(images_per_s: float) -> dict[str, float]:
        """Model FLOPs utilisation; not of partial tuning, whose backward pass is a part."""
        if kind == "partial":
            return {}
        share = utilisation(flops * images_per_s, run.device, settings.precision, team.size)
        return {"mfu": round(share, 4)}

    model.train()
    for epoch in range(meter.epoch, settings.epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(seen), generator=order_rng)
        batches = feed.batches(
            order[: steps * batch_size].split(batch_size),
            augment_rng,
            skip=meter.step,
            shares=lambda n: [share.rows for share in shares],
        )
        for step in range(meter.step, steps):
            position = epoch + step / steps
            schedule = {"warmup": settings.warmup_epochs, "epochs": settings.epochs}
            set_lr(optimizer, lr_at(position, peak=peak_lr, final=FINAL_LR, **schedule))

            # gradients of the batch, share by share
            optimizer.zero_grad(set_to_none=True)
            mean_loss = torch.zeros((), device=run.device)
            for share in shares:
                pixels, labels = next(batches)
                seed_step(seed, name, epoch * steps + step, share.number)
                images = erase(normalise(pixels, data.mean, data.std))
                images, targets = mix(images, labels)
                with team.averaging(trained, last=share is shares[-1]):
                    with precision.forward():
                        scores = trained(images)
                    loss = mix.loss(scores.float(), targets) / len(shares)
                    precision.backward(loss)
                mean_loss += loss.detach()

            # one optimiser step
            precision.step(optimizer)
            if averaged:
                averaged.update(model)
            meter.add(mean_loss)
            checkpoints.after_step()

        # the end of an epoch: check, journal, checkpoint, tell
        loss, seconds = meter.finish()
        checkpoints.seconds += seconds
        per_s = steps * batch_size / seconds
        point = {
            f"{name}/loss": loss,
            f"{name}/lr": max(group["lr"] for group in optimizer.param_groups),
            f"{name}/epoch": meter.epoch,
            **{f"{name}/{key}": value for key, value in speed(per_s).items()},
        }
        if meter.epoch in validated:
            point[f"{name}/validation_acc1"] = validation_accuracy()
        run.note(meter.global_step, point)
        checkpoints.after_epoch()
        run.tell(name, meter.epoch, settings.epochs, loss, steps * batch_size, seconds)

    # after the last epoch, once
    images_seen = settings.epochs * steps * batch_size
    rate = images_seen / checkpoints.seconds
    return {
        **keep_answers(run, answers(data.test), data.test.labels, data.classes),
        "validation_acc1": run.last(f"{name}/validation_acc1"),
        "train_loss": run.last(f"{name}/loss"),
        "epochs": settings.epochs,
        "tuned_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": checkpoints.seconds,
        "images_per_s": rate,
        "flops_per_image": flops,
        **speed(rate),
        **facts(run),
    }

"""Phase `tokenizer`: a small vector-quantised autoencoder on the study's own training images.

It stands in for the DALL-E dVAE of the paper's Table 1d, whose weights are not at hand: that one
saw 250 million other images, this one sees only the study's. With `source: dalle` there is nothing
to train; the phase then says which file was used.
"""

import torch

from mae_ablation.data.augment import View
from mae_ablation.data.dataset import Dataset, Split, load
from mae_ablation.data.feed import Feed, plain
from mae_ablation.mae.tokenizer import PatchTokenizer, perplexity
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.train.checkpoints import Checkpoints
from mae_ablation.train.facts import facts
from mae_ablation.train.memory import reset_peak_memory
from mae_ablation.train.meter import Meter
from mae_ablation.train.models import new_tokenizer, require_quality
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun

SEED = 0  # of its own: all seeds of a study predict the same tokens
CHECKPOINT_EVERY_S = 30.0


def tokenizer(recipe: Recipe, run: PhaseRun) -> dict:
    """Train, or go on; returns what `result.json` holds. For a single worker.

    Raises:
        GateClosed: too few codes are in use, or they explain too little of the validation images.
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
    """
    settings = recipe.tokenizer
    if settings.source == "dalle":
        return {"source": "dalle", "sha256": settings.sha256, "seconds": 0.0, **facts(run)}
    reset_peak_memory(run.device)
    data = load(recipe.data)
    torch.manual_seed(SEED)  # the layers' own initialisation
    model = new_tokenizer(recipe, data.channels).to(run.device)
    order_rng, codes_rng = (generator(SEED, f"tokenizer/{s}") for s in ("order", "codes"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.0)
    batch_size = min(settings.batch_size, len(data.train))
    steps = len(data.train) // batch_size
    meter = Meter(run, settings.epochs, steps)
    checkpoints = Checkpoints(
        run=run,
        meter=meter,
        parts={"model": model, "optimizer": optimizer},
        replayed={"order": order_rng},
        generators={"codes": codes_rng},
        every_s=CHECKPOINT_EVERY_S,
    )
    checkpoints.resume()
    feed = Feed(data.train, View(augmentation="none"), run.device, workers=recipe.data.workers)
    for _ in range(meter.epoch, settings.epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(data.train), generator=order_rng)
        batches = order[: steps * batch_size].split(batch_size)
        for pixels, _ in feed.batches(batches, order_rng, skip=meter.step):
            quantised = model(pixels)
            optimizer.zero_grad(set_to_none=True)
            quantised.loss.backward()
            optimizer.step()
            model.update(pixels, codes_rng)
            meter.add(quantised.loss.detach())
            checkpoints.after_step()

        # the end of an epoch: check, journal, checkpoint, tell
        loss, seconds = meter.finish()
        checkpoints.seconds += seconds
        run.note(meter.global_step, {"tokenizer/loss": loss, "tokenizer/epoch": meter.epoch})
        checkpoints.after_epoch()
        run.tell("tokenizer", meter.epoch, settings.epochs, loss, steps * batch_size, seconds)

    used, explained = quality(model, data, data.validation, run.device)
    result = {"source": "in_domain", "perplexity": used, "explained": explained}
    require_quality(recipe, result)
    return {**result, "seconds": checkpoints.seconds, **facts(run)}


@torch.no_grad()
def quality(model: PatchTokenizer, data: Dataset, split: Split, device: str) -> tuple[float, float]:
    """Perplexity of the codes, and the share of the pixels' variance they explain."""
    model.eval()
    tokens, wrong, varied = [], 0.0, 0.0
    mean = torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
    for pixels, _ in plain(split, device):
        quantised = model(pixels)
        tokens.append(quantised.tokens)
        wrong += (quantised.reconstruction - pixels).square().sum().item()
        varied += (pixels - mean).square().sum().item()
    model.train()
    return perplexity(torch.cat(tokens), model.vocabulary), 1 - wrong / varied

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
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.meter import Meter
from mae_ablation.train.models import new_tokenizer, require_quality
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.step import OptimizerStep

SEED = 0  # of its own: all seeds of a study predict the same tokens
CHECKPOINT_EVERY_S = 30.0


def tokenizer(recipe: Recipe, run: PhaseRun) -> dict:
    """Train the tokeniser, or resume; returns the content of `result.json`. For a single worker.

    Raises:
        GateClosed: too few codes are in use, or they explain too little of the validation images.
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
    """
    settings = recipe.tokenizer
    if settings.source == "dalle":
        return {"source": "dalle", "sha256": settings.sha256, "seconds": 0.0, **run.describe()}
    reset_peak_memory(run.device)

    # data, model and optimiser
    data = load(recipe.data)
    feed = Feed(data.train, View(augmentation="none"), run.device, workers=recipe.data.workers)
    torch.manual_seed(SEED)  # the layers' own initialisation
    model = new_tokenizer(recipe, data.channels).to(run.device)
    order_rng, codes_rng = (generator(SEED, f"tokenizer/{s}") for s in ("order", "codes"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.0)
    batch_size, epochs = min(settings.batch_size, len(data.train)), settings.epochs
    steps = len(data.train) // batch_size

    # where an earlier attempt stopped
    meter = Meter(run, epochs, steps)
    checkpoints = Checkpoints(
        run=run,
        meter=meter,
        parts={"model": model, "optimizer": optimizer},
        replayed={"order": order_rng},
        generators={"codes": codes_rng},
        every_s=CHECKPOINT_EVERY_S,
    )
    checkpoints.resume()
    update = OptimizerStep(optimizer=optimizer, meter=meter)

    for _ in range(meter.epoch, epochs):
        checkpoints.begin_epoch()
        order = torch.randperm(len(data.train), generator=order_rng)
        batches = order[: steps * batch_size].split(batch_size)

        for pixels, _ in feed.batches(batches, order_rng, skip=meter.step):
            for _ in update.micro_batches():
                update.backward(model(pixels).loss)
            update.apply()
            model.update(pixels, codes_rng)
            checkpoints.after_step()

        # end of the epoch: curve, checkpoint, progress
        loss, seconds = meter.finish_epoch()
        run.log(meter.global_step, {"tokenizer/loss": loss, "tokenizer/epoch": meter.epoch})
        checkpoints.after_epoch()
        run.report_epoch("tokenizer", meter.epoch, epochs, loss, steps * batch_size, seconds)

    used, explained = measure_quality(model, data, data.validation, run.device)
    result = {"source": "in_domain", "perplexity": used, "explained": explained}
    require_quality(recipe, result)
    return {**result, "seconds": meter.train_seconds, **run.describe()}


@torch.no_grad()
def measure_quality(
    model: PatchTokenizer, data: Dataset, split: Split, device: str
) -> tuple[float, float]:
    """Measure the codes' perplexity and the share of the pixels' variance they explain."""
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

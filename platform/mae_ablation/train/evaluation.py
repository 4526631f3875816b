"""Steps that evaluations share: the images whose labels they see, accuracy, saved predictions."""

import torch

from mae_ablation.data.dataset import Dataset, Files, Split
from mae_ablation.data.draws import draw_labelled
from mae_ablation.store.predictions import NAME, SUM, Predictions, pack, sum_of
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun


def draw_labelled_images(data: Dataset, labels: int | None, seed: int) -> Split | Files:
    """Draw a class-balanced part of the training split by the trial's seed.

    The draw is the same for every level and every evaluation of a seed, and a smaller one lies
    within a larger one.

    Args:
        labels: number of images; None: the whole split.

    Raises:
        UserError: a class has too few images.
    """
    if labels is None:
        return data.train
    rng = generator(seed, "labels")
    return data.train.part(
        torch.from_numpy(draw_labelled(data.train.labels.numpy(), labels, data.classes, rng))
    )


def accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Compute top-1 accuracy in per cent, of classes (n,)."""
    return 100 * (predicted == labels).double().mean().item()


def save_predictions(
    run: PhaseRun, predicted: torch.Tensor, labels: torch.Tensor, classes: int
) -> dict[str, float | str]:
    """Write the class predicted for every test image; returns accuracy and checksum for the result.

    Every worker calls this; rank zero writes. A phase that is killed before its result is written
    writes the same file again.

    Args:
        predicted, labels: classes (n,) in the order of the test split.
    """
    answers = Predictions(predicted=predicted.cpu().numpy(), label=labels.cpu().numpy())
    data = pack(answers, classes)
    path = f"{run.folder.name}/{NAME}"
    run.workers.on_rank_zero(lambda: run.folder.files.write(path, data))
    return {"test_acc1": answers.acc1, SUM: sum_of(data)}

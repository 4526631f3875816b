"""What an evaluation says of the test split: its accuracy, and the answer to every image."""

import torch

from mae_ablation.store.predictions import NAME, SUM, Predictions, pack, sum_of
from mae_ablation.train.run import PhaseRun


def keep_answers(
    run: PhaseRun, predicted: torch.Tensor, labels: torch.Tensor, classes: int
) -> dict[str, float | str]:
    """Write the answers beside the result that will follow; returns what it says of them.

    For all workers of the team; rank zero writes. A phase that is killed between the two writes
    the same file again.

    Args:
        predicted, labels: classes (n,) in the order of the test split.
    """
    answers = Predictions(predicted=predicted.cpu().numpy(), label=labels.cpu().numpy())
    data = pack(answers, classes)
    run.team.alone(lambda: run.folder.files.write(f"{run.folder.name}/{NAME}", data))
    return {"test_acc1": answers.acc1, SUM: sum_of(data)}

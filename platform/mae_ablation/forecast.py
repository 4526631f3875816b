"""Forecast: what studies would run on, and how fast that is, found out for the estimate."""

from collections.abc import Sequence

from mae_ablation.data.catalog import require_present
from mae_ablation.errors import UserError
from mae_ablation.study import machine as here
from mae_ablation.study.plan import Plan, missing, trials_of
from mae_ablation.study.speed import Machine, Measured


def machine_of(
    *, lanes: int | None = None, workers: int = 1, gpus: float = 0.0, local: bool = True
) -> Machine:
    """What studies would run on, as far as it is known before Ray is started.

    Args:
        lanes: None: as many as this machine has room for; elsewhere nobody knows yet, and it is
            one.
        local: whether they run on this machine.
    """
    if not local:
        return Machine(lanes=lanes or 1, workers=workers, gpus=gpus)
    room = here.gpus() / gpus if gpus else here.cores()
    return Machine(
        lanes=lanes or max(1, int(room) // workers),
        workers=workers,
        gpus=gpus,
        processor=None if gpus else here.processor(),
    )


def calibrated(plans: Sequence[Plan], machine: Machine) -> list[Measured]:
    """Speeds of the shapes that some plans' missing trials have, timed now on this machine.

    Raises:
        UserError: the data is not here, or a training step fails, or lanes are asked for that one
            process of this machine cannot stand for.
    """
    if machine.gpus and here.gpus() < machine.lanes * machine.gpus:
        raise UserError("there are not so many GPUs here to time: leave it out", "--calibrate")
    if machine.workers > 1:
        raise UserError("it times lanes of one worker: leave it out", "--calibrate")
    from mae_ablation.train.calibrate import calibrate

    todo = missing(trials_of(plans), plans[0].store)
    for data in dict.fromkeys(trial.recipe.data for trial in todo):
        require_present(data, f"--calibrate, data.name {data.name}")
    return calibrate(todo, machine, here.cores())

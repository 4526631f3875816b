"""Lane: a long-lived Ray Train worker that pulls trials from the queue until there are none.

Starting Ray's and torch's processes costs 14 to 20 CPU seconds; a lane pays that once, and a
further trial in it a few hundredths of a second.
"""

import time

PROGRESS_EVERY_S = 0.5
WAIT_S = 0.2  # until the queue is asked again by a lane whose trials wait for another lane's


def lane_loop(config: dict) -> None:
    """Training function of the lane's TorchTrainer.

    Config: `queue` (actor), `lane` (number), `store` (absolute path), `threads`, `gpu` (bool),
    `lanes` (how many there are), `commit`, `shelf` (actor of shared data sets).
    """
    import ray
    import torch

    from mae_ablation.cluster.queue import WAIT
    from mae_ablation.cluster.shelf import fetch
    from mae_ablation.phases.trial import run_trial

    queue, lane = config["queue"], config["lane"]
    torch.set_num_threads(config["threads"])
    device = "cuda" if config["gpu"] and torch.cuda.is_available() else "cpu"
    told = 0.0

    def report(progress: dict) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_EVERY_S:
            queue.progress.remote(lane, progress)  # not waited for
            told = time.monotonic()

    while (trial := ray.get(queue.next.remote(lane))) is not None:
        if trial == WAIT:
            time.sleep(WAIT_S)
            continue
        fetch(config["shelf"], lane, trial)
        failure = run_trial(
            trial,
            config["store"],
            device=device,
            commit=config["commit"],
            lanes=config["lanes"],
            report=report,
        )
        ray.get(queue.finish.remote(lane, failure))

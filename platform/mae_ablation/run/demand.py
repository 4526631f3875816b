"""Demand: asks an autoscaling cluster for the nodes that the lanes need, and takes it back."""

import contextlib

from mae_ablation.run.lanes import Lanes


class Demand:
    """What is asked for, while the block lasts. Nothing on a cluster that does not scale."""

    def __init__(self, lanes: Lanes, *, scales: bool = False) -> None:
        self._lanes, self._scales = lanes, scales
        self._asked = 0

    def ask(self, lanes: int) -> None:
        """Have room for so many lanes; fewer let idle nodes go."""
        if self._scales and lanes != self._asked:
            from ray.autoscaler.sdk import request_resources

            bundles = [self._lanes.need] * (lanes * self._lanes.workers)
            request_resources(bundles=bundles)
            self._asked = lanes

    def __enter__(self) -> "Demand":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):  # Ray may be what has ended
            self.ask(0)

"""Decoded data sets in Ray's object store, so that a node decodes and keeps each once.

The first lane that needs a set decodes it and puts it there; the other lanes of the node read the
same memory, those of other nodes get one copy for the node.
"""

import time
from typing import Any

from mae_ablation.study.trial import Trial

ASK_AGAIN_S = 0.2


class DatasetCache:
    """An actor that says which lane decodes a set, and where it lies once it is decoded.

    One that is killed starts again with nothing: sets are decoded again.
    """

    def __init__(self) -> None:
        self._sets: dict[Any, list] = {}
        self._decoding: dict[Any, str] = {}

    def ask(self, key: Any, lane: str) -> list | str:
        """Return a list with the reference; "decode" if it is this lane's turn; else "wait"."""
        if key in self._sets:
            return self._sets[key]
        return "decode" if self._decoding.setdefault(key, lane) == lane else "wait"

    def lost(self, lane: str, reason: str, counts: bool) -> None:
        """Let another lane decode what this one was at, which is gone."""
        self._decoding = {key: at for key, at in self._decoding.items() if at != lane}

    def put(self, key: Any, reference: list | None) -> None:
        """`reference` is a list of one, so that Ray hands over the reference and not the data;
        None: it could not be decoded or is lost, another lane may try."""
        self._decoding.pop(key, None)
        self._sets.pop(key, None)
        if reference:
            self._sets[key] = reference


def share_dataset(cache: Any, lane: str, trial: Trial) -> None:
    """Have the trial's data set in this process, from the cache where it fits in memory.

    A set that cannot be decoded is left to the trial, which meets the same error and says so.
    """
    import ray

    from mae_ablation.data import dataset

    data = trial.recipe.data
    if not dataset.fits_in_memory(data) or dataset.is_loaded(data):
        return

    # the first lane that asks decodes it for all; a set whose holder died is asked for again
    key = dataset.key_of(data)
    while True:
        answer = ray.get(cache.ask.remote(key, lane))
        if answer == "wait":
            time.sleep(ASK_AGAIN_S)
            continue
        if answer == "decode":
            answer = _decode(cache, key, data)
        try:
            if answer:
                dataset.keep_dataset(data, dataset.from_arrays(ray.get(answer[0])))
            return
        except ray.exceptions.ObjectLostError:  # the lane that put it there is gone, or its node
            ray.get(cache.put.remote(key, None))


def _decode(cache: Any, key: Any, data: Any) -> list | None:
    import ray

    from mae_ablation.data import dataset

    reference = None
    try:
        reference = [ray.put(dataset.to_arrays(dataset.read_dataset(data)))]
    except Exception:  # whatever a file may lead to; else the lane would end, and not the trial
        return None
    finally:
        ray.get(cache.put.remote(key, reference))
    return reference

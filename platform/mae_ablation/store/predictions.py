"""The answers an evaluation gave to the test images: a few KB beside its result.

predictions.npz holds two arrays in the order of the test split: `predicted` and `label`, a byte
each, two above 256 classes. The result states the file's SHA-256.
"""

import hashlib
import io
from typing import TYPE_CHECKING, NamedTuple

from mae_ablation.store.checkpoint import Damaged

if TYPE_CHECKING:
    import numpy as np

    from mae_ablation.store.folder import PhaseFolder

NAME = "predictions.npz"
SUM = "predictions_sha256"
"""key of the file's SHA-256 in result.json"""


class Predictions(NamedTuple):
    """Answers to the test images; arrays (n,) of unsigned integers."""

    predicted: "np.ndarray"
    label: "np.ndarray"

    @property
    def acc1(self) -> float:
        """Top-1 accuracy in per cent."""
        return 100 * float((self.predicted == self.label).mean())


def pack_predictions(predictions: Predictions, classes: int) -> bytes:
    """Return the file's bytes; the same answers give the same bytes."""
    import numpy as np

    # no dates and names in it: equal answers are equal files
    kind = np.uint8 if classes <= 256 else np.uint16
    file = io.BytesIO()
    arrays = {name: np.asarray(a).astype(kind) for name, a in predictions._asdict().items()}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def unpack(data: bytes) -> Predictions:
    """Return what was packed. Raises ValueError or an error of zipfile for something else."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Predictions(predicted=arrays["predicted"], label=arrays["label"])


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def predictions_of(folder: "PhaseFolder", result: dict) -> Predictions | None:
    """Return a finished evaluation's answers, if its result names some; Damaged if those differ."""
    if SUM not in result:
        return None
    # a result without them is older; one that names them stands and falls with them
    data = folder.files.read(f"{folder.name}/{NAME}")
    if data is None or sum_of(data) != result[SUM]:
        state = "is missing" if data is None else "is damaged"
        remedy = "`store verify --mend` has the phase finished again"
        raise Damaged(f"{folder.name}/{NAME} {state}: {remedy}")
    return unpack(data)

"""Budget: the hours that a run may take, of the clock or of GPUs."""

import time

SECONDS_PER_HOUR = 3600


class Budget:
    """Tells when a run has spent what it was given; without a limit it never does.

    Args:
        hours: of the clock, since `began`.
        gpu_hours: of all GPUs of the lanes that are alive, whether or not they are at work.
        gpus_per_lane: that each of its workers holds, together.
        began: a moment of `time.monotonic`; None: now.
    """

    def __init__(
        self,
        *,
        hours: float | None = None,
        gpu_hours: float | None = None,
        gpus_per_lane: float = 0.0,
        began: float | None = None,
    ) -> None:
        self._hours, self._gpu_hours, self._gpus = hours, gpu_hours, gpus_per_lane
        self._began = time.monotonic() if began is None else began
        self._seen = time.monotonic()
        self._gpu_seconds = 0.0

    def spent(self, lanes: int) -> str:
        """What is spent, as "2 hours" or "8 GPU-hours"; "" while some of it is left.

        To be asked often. `lanes`: those that are alive, and were since it was last asked.
        """
        now = time.monotonic()
        self._gpu_seconds += lanes * self._gpus * (now - self._seen)
        self._seen = now
        if self._hours is not None and now - self._began >= self._hours * SECONDS_PER_HOUR:
            return f"{self._hours:g} hour{'s' * (self._hours != 1)}"
        if self._gpu_hours is not None and self._gpu_seconds >= self._gpu_hours * SECONDS_PER_HOUR:
            return f"{self._gpu_hours:g} GPU-hour{'s' * (self._gpu_hours != 1)}"
        return ""

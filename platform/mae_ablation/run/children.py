"""Processes that end with the command that started them, whatever ended it.

A shell between us and the process waits at a pipe of ours. The system closes it when we end, by
SIGKILL too; then everything in the process's group is asked to end, and killed five seconds later.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

GRACE_S = 5
ENDS_WITH_US = (
    "exec 3<&0; trap : TERM; "
    f"(trap '' TERM; read _ <&3; kill 0; sleep {GRACE_S}; kill -9 0) >/dev/null 2>&1 & "
    '"$@" </dev/null; status=$?; trap "" TERM; kill 0; exit $status'
)
"""sh: run a command until it ends, or our end of the pipe closes"""


def start(words: Sequence[str], **options: object) -> subprocess.Popen:
    """Start a command in a group of its own, out of reach of the terminal's Ctrl-C.

    Args:
        options: as of subprocess.Popen, but for stdin.
    """
    return subprocess.Popen(
        ["sh", "-c", ENDS_WITH_US, "sh", *words],
        stdin=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def end(process: subprocess.Popen) -> None:
    """End a process of `start` and all that it has started, and wait for that."""
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S + 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what has not listened, and the watching shell
    process.wait()


def output_of(words: Sequence[str], **options: object) -> tuple[int, str]:
    """Return a command's exit status, and what it has said on both of its streams."""
    process = start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    try:
        said = process.stdout.read()
        return process.wait(), said
    finally:
        end(process)

"""A run is asked to save and leave by Ctrl-C, by SIGTERM, and by a terminal that is closed."""

import os
import signal
import subprocess
import sys

import pytest
from processes import PATIENCE_S, wait_for

from mae_ablation.run.stopping import Interrupt

AT_WORK = """\
import sys, time
from mae_ablation.run.stopping import Interrupt

with open(sys.argv[1], "w", buffering=1) as told, Interrupt() as interrupt:
    told.write("at work\\n")
    until = time.monotonic() + 60
    while not interrupt.asked and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    print("finishing the running step", flush=True)
    told.write("left\\n")
"""
TERMINAL = """\
import os, pty, signal, sys, time

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
shell, ours = pty.fork()
if not shell:
    os.execvp("bash", ["bash", "--norc", "-i"])
os.write(ours, f"{sys.executable} at_work.py told\\n".encode())
while not os.path.exists("told") or not open("told").read():
    time.sleep(0.05)
os.close(ours)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_first_signal_asks_and_the_second_stops(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_what_was_started_with_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_in_the_background_of_a_script_hears_ctrl_c_all_the_same():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_terminal_that_goes_away_says_so_twice_and_the_run_leaves_in_order(tmp_path):
    """An interactive shell sends what it started a SIGHUP, and the system sends another."""
    (tmp_path / "at_work.py").write_text(AT_WORK)
    subprocess.run([sys.executable, "-c", TERMINAL], cwd=tmp_path, timeout=PATIENCE_S, check=True)
    told = tmp_path / "told"
    wait_for(lambda: told.read_text().splitlines() == ["at work", "left"], "the run to leave")

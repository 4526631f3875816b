"""Nothing is lost: kill what you like, run the same command again."""

import os
import signal

import pytest
from conftest import write_place
from processes import (
    CONTROLLER,
    PATIENCE_S,
    QUEUE,
    WORKER,
    descendants,
    finish,
    journal_lines,
    kill,
    parent,
    start,
    wait_for,
)
from toys import require_every_point_once, require_same, run_undisturbed

EPOCHS = 120  # long enough to be killed three times
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study's store where nothing happened to it."""
    place = tmp_path_factory.mktemp("undisturbed")
    run_undisturbed(
        write_place(place, STUDY, epochs=EPOCHS, checkpoint_every_s=0.2), place / "store"
    )
    return place / "store"


@pytest.fixture
def place(tmp_path):
    write_place(tmp_path, STUDY, epochs=EPOCHS, checkpoint_every_s=0.2)
    return tmp_path


def go_on(place, lines: int = 5) -> None:
    """Wait until the study has written some lines more."""
    before = journal_lines(place)
    wait_for(lambda: journal_lines(place) > before + lines, "training to go on")


@pytest.mark.slow
def test_worker_queue_controller_and_driver_are_killed_in_turn(place, undisturbed):
    driver = start(place)
    for victim, told in ((WORKER, "its worker was killed"), (QUEUE, ""), (CONTROLLER, "its contr")):
        go_on(place)
        kill(driver.pid, victim)
        wait_for(lambda told=told: told in (place / "driver.log").read_text(), "it to be noticed")
    go_on(place)
    everything = descendants(driver.pid)
    driver.kill()
    driver.wait()
    said = finish(start(place), place)  # at once: the old workers are there for some seconds
    assert "its worker was killed" in said and "its controller was killed" in said
    assert "4 of 4 trials finished" in said
    wait_for(lambda: not any(parent(pid) for pid in everything), "Ray's old agents to end, too")
    require_same(place / "store", undisturbed)
    require_every_point_once(place / "mlflow.db", place / "store")


@pytest.mark.slow
def test_ctrl_c_once_saves_and_leaves(place, undisturbed):
    driver = start(place)
    go_on(place)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    assert driver.wait(timeout=PATIENCE_S) == 130
    said = (place / "driver.log").read_text()
    assert "finishing the running step and saving" in said and "the same command goes on" in said
    assert "finished" not in said.split("Ctrl-C again")[1] and "Traceback" not in said
    assert not (place / "reports").exists() and not list(place.glob("store/*/*/failure.json"))
    finish(start(place), place)
    require_same(place / "store", undisturbed)
    require_every_point_once(place / "mlflow.db", place / "store")


@pytest.mark.slow
@pytest.mark.rare
def test_ctrl_c_while_the_lanes_start(place):
    driver = start(place)
    wait_for(lambda: descendants(driver.pid, CONTROLLER), "a lane to start")
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=PATIENCE_S) == 130, (place / "driver.log").read_text()
    said = (place / "driver.log").read_text()
    assert "the same command goes on" in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.rare
def test_ctrl_c_twice_stops_at_once(place):
    driver = start(place)
    go_on(place)
    os.kill(driver.pid, signal.SIGTERM)  # as `ray job stop` does
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait(timeout=60) == 130


@pytest.mark.slow
@pytest.mark.rare
def test_ray_dies(place, undisturbed):
    victim = "gcs_server"
    driver = start(place)
    go_on(place)
    paths = [pid for pid in descendants(driver.pid) if victim in command(pid)]
    os.kill(paths[0], signal.SIGKILL)
    assert driver.wait(timeout=PATIENCE_S) == 1
    said = (place / "driver.log").read_text()
    assert f"Ray on this machine died: its {victim} ended; the same command goes on" in said
    assert "Traceback" not in said
    finish(start(place), place)
    require_same(place / "store", undisturbed)


def command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return os.path.basename(file.read().split("\0")[0])
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.rare
def test_two_drivers_on_one_store_share_the_work(place, undisturbed):
    other = place / "other"
    other.mkdir()
    write_place(other, STUDY, epochs=EPOCHS, checkpoint_every_s=0.2)
    drivers = [(start(place), place), (start(other, "--store", str(place / "store")), other)]
    for driver, at in drivers:
        assert "4 of 4 trials finished" in finish(driver, at)
    require_same(place / "store", undisturbed)
    for at in (place, other):
        require_every_point_once(at / "mlflow.db", place / "store")

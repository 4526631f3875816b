"""The one file that uses Ray's private parts was checked with the Ray that we test with."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import ROOT

from mae_ablation.run import ray_private

PACKAGE = ROOT / "platform" / "mae_ablation"
STORY = """
import time
from mae_ablation.run import ray_private
from mae_ablation.run.ray_session import ray_session

class Controller:
    def reserve(self):
        ray.get(ray.util.placement_group([{"CPU": 1}]).ready())

with ray_session():
    import ray

    assert ray_private.dead_processes() == []
    assert ray_private.list_failed_launches() == []
    everything = ray.cluster_resources()["CPU"]
    controller = ray.remote(num_cpus=0, max_restarts=0)(Controller).remote()
    ray.get(controller.reserve.remote())
    assert ray.available_resources().get("CPU", 0) < everything
    ray.kill(controller)
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < everything and time.monotonic() < until:
        ray_private.remove_orphaned_groups()
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == everything
    ray_private.kill_controllers()  # there are none
"""


def test_the_private_parts_were_checked_with_the_ray_that_we_test_with():
    assert f"ray=={ray_private.CHECKED_WITH}" in (ROOT / "constraints.txt").read_text().split()
    assert version("ray") == ray_private.CHECKED_WITH, "run `pytest -m slow` on this file"


def test_nothing_else_uses_a_private_part():
    private = ("ray._", "._private", "ray.core.generated")
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "ray_private.py"]
    found = [
        f"{path.name}: {line}"
        for path in files
        for line in path.read_text().splitlines()
        if "ray" in line and any(name in line for name in private)
    ]
    assert not found


@pytest.mark.slow
def test_what_a_dead_controller_held_is_free_again(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STORY], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

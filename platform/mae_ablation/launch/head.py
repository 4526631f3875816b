"""On the head of a cluster, as a job: run studies there, and pack what is to come home.

    python -m mae_ablation.launch.head JOB     in a working directory staged by launch/job.py

Everything lies in ~/mae-ablation: studies/, store/ unless another one is named, reports/, data/,
mlflow.db unless a server is named, jobs/JOB.zip. It begins with the standard library alone, so
that what the nodes lack is said in one line.
"""

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mae_ablation.run.session import Session

CLUSTER_FOLDER = Path("~/mae-ablation")
SPEC = "job.json"
NEEDED = "ray torch torchvision timm mlflow pandas scipy seaborn numpy cyclopts rich safetensors "
NEEDED += "yaml PIL"
PACKAGES = {"yaml": "pyyaml", "PIL": "pillow"}
"""names by which pip knows modules, where they differ"""
USER_ERROR, INTERRUPTED = 2, 130


def archive_of(job: str) -> str:
    """Name the file that a job packs its results into, relative to CLUSTER_FOLDER."""
    return f"jobs/{job}.zip"


def run_job(job: str) -> int:
    """Run a job; returns the exit status: 0 all done, 1 a trial has no result, 2 a user's error."""
    # said in one line, instead of the traceback of the first import that fails
    lacking = [PACKAGES.get(name, name) for name in NEEDED.split() if find_spec(name) is None]
    if lacking:
        print(
            f"the cluster's head has no {', '.join(lacking)}: add `pip install "
            f"{' '.join(lacking)}` to setup_commands of the cluster file, and `ray up` again"
        )
        return USER_ERROR
    from mae_ablation.errors import UserError
    from mae_ablation.launch.here import run_here
    from mae_ablation.registry import install_plugins
    from mae_ablation.run.session import Session
    from mae_ablation.store.plugin import unpack_plugin
    from mae_ablation.study.request import Request

    # a job's own folder does not last: what was shipped goes to CLUSTER_FOLDER, and so do we
    home, spec = CLUSTER_FOLDER.expanduser(), json.loads(Path(SPEC).read_text())
    shutil.copytree(Path.cwd(), home, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SPEC))
    os.chdir(home)
    if spec["mlflow"]:
        os.environ["MLFLOW_TRACKING_URI"] = spec["mlflow"]

    # the studies, and their small files for whoever follows the job
    try:
        install_plugins(unpack_plugin(each) for each in spec["plugins"])
        session = Session.load(Request(**spec["request"]))
        try:
            return 1 if run_here(session, "auto") else 0
        finally:
            pack_session(job, session)
    except UserError as error:
        print(error)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped")
        return INTERRUPTED


def pack_session(job: str, session: "Session") -> None:
    """Pack the small files of a session's phases, and what was found of its data."""
    from mae_ablation.data.catalog import facts
    from mae_ablation.launch.download import begun_folders, pack_results
    from mae_ablation.study.declared import packed_declarations
    from mae_ablation.study.plan import trials_of

    trials = trials_of(session.plans)
    # what home needs to know of data sets that it does not have
    data = dict.fromkeys(trial.recipe.data for trial in trials)
    data |= dict.fromkeys(plan.study.baseline.data for plan in session.plans)
    found = [(each, facts(each)) for each in data]
    declared = packed_declarations(session.plans)
    pack_results(Path(archive_of(job)), begun_folders(trials, session.store), found, declared)


if __name__ == "__main__":
    sys.exit(run_job(sys.argv[1]))

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

FOLDER = Path("~/mae-ablation")
SPEC = "job.json"
NEEDED = {  # module: what pip calls it
    "ray": "ray",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "mlflow": "mlflow",
    "pandas": "pandas",
    "scipy": "scipy",
    "seaborn": "seaborn",
    "numpy": "numpy",
    "yaml": "pyyaml",
    "rich": "rich",
    "PIL": "pillow",
    "safetensors": "safetensors",
}
USER_ERROR, INTERRUPTED = 2, 130


def archive_of(job: str) -> str:
    """Where a job packs what comes home, relative to FOLDER."""
    return f"jobs/{job}.zip"


def main(job: str) -> int:
    """Returns the exit status: 0 all done, 1 a trial has no result, 2 an error of the user's."""
    lacking = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if lacking:
        packages = " ".join(lacking)
        print(
            f"the cluster's head has no {', '.join(lacking)}: add `pip install {packages}` to "
            "setup_commands of the cluster file, and `ray up` again"
        )
        return USER_ERROR
    from mae_ablation.errors import UserError

    spec = json.loads(Path(SPEC).read_text())
    settle()
    if mlflow := spec.pop("mlflow"):
        os.environ["MLFLOW_TRACKING_URI"] = mlflow
    spec["store"] = os.path.expanduser(spec["store"])
    try:
        return run(job, **spec)
    except UserError as error:
        print(error)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped")
        return INTERRUPTED


def settle() -> None:
    """Copy what was shipped into FOLDER, and go there: a job's own folder does not last."""
    home = FOLDER.expanduser()
    shutil.copytree(Path.cwd(), home, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SPEC))
    os.chdir(home)


def run(job: str, studies: list[str], **arguments: object) -> int:
    """Run studies on the cluster this process belongs to, and pack their small files."""
    from mae_ablation.api import run_studies

    paths = [Path(study) for study in studies]
    try:
        unfinished = run_studies(paths, reports=Path("reports"), address="auto", **arguments)
        return 1 if unfinished else 0
    finally:
        planned = ("store", "recipe", "changes", "seeds", "phases", "until_decided", "most")
        pack_studies(job, paths, **{name: arguments[name] for name in planned})


def pack_studies(job: str, studies: list[Path], **planned: object) -> None:
    from mae_ablation.api import plan_studies
    from mae_ablation.data.catalog import facts
    from mae_ablation.launch.home import folders_of, pack
    from mae_ablation.study.declared import packed_declarations
    from mae_ablation.study.plan import trials_of

    plans = plan_studies(studies, **planned)
    trials = trials_of(plans)
    data = dict.fromkeys(trial.recipe.data for trial in trials)
    data |= dict.fromkeys(plan.study.baseline.data for plan in plans)
    folders = folders_of(trials, plans[0].store)
    found = [(each, facts(each)) for each in data]
    pack(Path(archive_of(job)), folders, found, packed_declarations(plans))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""A study on a cluster: what is shipped, under which name, followed how, and what comes home."""

import json
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TOY_RECIPE
from toys import session_of

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.launch import head, submit
from mae_ablation.launch import job as jobs
from mae_ablation.launch.download import begun_folders, pack_results, unpack_results
from mae_ablation.launch.place import Cluster
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import find_component
from mae_ablation.store.folder import Store
from mae_ablation.store.plugin import unpack_plugin
from mae_ablation.study.declared import declare_plan, declared_in, packed_declarations
from mae_ablation.study.request import Request, Selection
from mae_ablation.study.suite import load_all
from mae_ablation.study.trial import DataFacts

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nphases: [pretrain, knn]\n"
CLUSTER = Cluster(file=Path("cluster.yaml"), head="10.0.0.1", store=None, mlflow=None, line="")


class Status(Enum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    def is_terminal(self):
        return self != Status.RUNNING


class Cut(Exception):
    """The connection broke."""


class FakeCluster:
    """Ray's job client: `parts` of the log are sent at each connection, exceptions are raised."""

    def __init__(self, *connections, status=Status.SUCCEEDED, code=0, message=""):
        self.connections, self.jobs, self.submitted = list(connections), {}, []
        self.status, self.code, self.message = status, code, message

    def list_jobs(self):
        return [SimpleNamespace(submission_id=j, status=s) for j, s in self.jobs.items()]

    def submit_job(self, **arguments):
        folder = Path(arguments["runtime_env"]["working_dir"])
        self.files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        self.submitted.append(arguments)
        self.jobs[arguments["submission_id"]] = Status.RUNNING

    def get_job_info(self, job):
        over = not self.connections
        return SimpleNamespace(
            status=self.status if over else Status.RUNNING,
            driver_exit_code=self.code,
            message=self.message,
        )

    async def tail_job_logs(self, job):
        for part in self.connections.pop(0):
            if isinstance(part, BaseException):
                raise part
            yield part


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a study, and much that is nobody's business."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "RECONNECT_AFTER_S", (0, 0))
    for name, text in {
        "studies/x.yaml": STUDY,
        "studies/other.yaml": STUDY,
        "studies/all.yaml": "studies: [x]\n",
        "studies/recipes/toy.yaml": TOY_RECIPE,
        "my/recipe.yaml": TOY_RECIPE,
        "data/cifar10/secret.bin": "",
        "store/pretrain/p/checkpoint-1.pt": "",
        ".git/config": "",
        "cluster.yaml": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def staged(folder, *names, recipe=None):
    folder.mkdir()
    given = [Path(name) for name in names]
    studies, _ = load_all(Selection(given, recipe=recipe))
    found = jobs.stage(folder, given, studies, recipe)
    return found, sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_nothing_else_of_the_folder_is_shipped(clone):
    found, files = staged(clone / "s", "studies/x.yaml")
    assert found == (["studies/x.yaml"], None)
    assert files == ["studies/recipes/toy.yaml", "studies/x.yaml"]


def test_a_recipe_that_ships_goes_along_with_the_one_it_points_to(clone):
    (clone / "studies" / "x.yaml").write_text(STUDY.replace("toy", "laptop"))
    _, files = staged(clone / "s", "studies/x.yaml")
    recipes = [f"studies/recipes/{name}.yaml" for name in ("laptop", "overnight", "toy")]
    assert files == [*recipes, "studies/x.yaml"]


def test_a_suite_ships_its_studies_and_a_named_recipe_file_itself(clone):
    found, files = staged(clone / "s", "studies/all.yaml", recipe="my/recipe.yaml")
    assert found == (["studies/all.yaml"], "my/recipe.yaml")
    assert files == [
        "my/recipe.yaml",
        "studies/all.yaml",
        "studies/recipes/toy.yaml",
        "studies/x.yaml",
    ]


def test_a_recipe_file_is_shipped_to_where_the_study_looks_for_it(clone):
    study = clone / "studies" / "x.yaml"
    for name, inside in (("mine.yaml", "studies/mine.yaml"), ("../up.yaml", "up.yaml")):
        study.write_text(STUDY.replace("recipe: toy", f"recipe: {name}"))
        (study.parent / name).write_text(TOY_RECIPE)
        folder = clone / inside.replace("/", "-").removesuffix(".yaml")
        found, files = staged(folder, "studies/x.yaml")
        assert found == (["studies/x.yaml"], None) and inside in files
    study.write_text(STUDY.replace("recipe: toy", f"recipe: {clone}/up.yaml"))
    with pytest.raises(UserError, match=r"up.yaml cannot be shipped: put it beside the study"):
        staged(clone / "away", "studies/x.yaml")


def test_files_from_elsewhere_have_a_folder_of_their_own(clone, monkeypatch):
    (clone / "empty").mkdir()
    monkeypatch.chdir(clone / "empty")
    ([inside], _), files = staged(clone / "s", f"{clone}/studies/x.yaml")
    assert inside in files and inside.startswith("given/") and inside.endswith("/x.yaml")
    assert inside.replace("x.yaml", "recipes/toy.yaml") in files


def test_an_id_is_of_the_studies_recipes_and_arguments(clone):
    staged(clone / "s", "studies/x.yaml")
    first = jobs.base_id(["x"], clone / "s")
    assert first == jobs.base_id(["x"], clone / "s") and len(first) == len("mae-x-01234567")
    (clone / "s" / "job.json").write_text('{"seeds": 3}')
    assert jobs.base_id(["x"], clone / "s") != first
    assert jobs.base_id(["x", "y"], clone / "s").startswith("mae-x-and-more-")


def test_a_running_job_is_attached_to_and_an_ended_one_gets_a_number():
    cluster = FakeCluster()
    assert jobs.find_job(cluster, "mae-x-1") == ("mae-x-1", False)
    cluster.jobs = {"mae-x-1": Status.FAILED, "mae-x-12": Status.RUNNING, None: Status.RUNNING}
    assert jobs.find_job(cluster, "mae-x-1") == ("mae-x-1-2", False)
    cluster.jobs["mae-x-1-2"] = Status.RUNNING
    assert jobs.find_job(cluster, "mae-x-1") == ("mae-x-1-2", True)
    cluster.jobs["mae-x-1-2"] = Status.STOPPED
    assert jobs.find_job(cluster, "mae-x-1") == ("mae-x-1-3", False)


PREAMBLE = (
    "2026 setting up\nRunning entrypoint for job mae-x-1: python -m mae_ablation.launch.head\n"
)


def told(cluster, connect=None):
    out = []
    end = jobs.follow(connect or (lambda: cluster), "mae-x-1", out.append)
    return "".join(out), end


def test_every_line_is_told_once_whatever_breaks():
    text = PREAMBLE + "one\ntwo\nthree\nfour\n"
    cluster = FakeCluster(
        [text[:20], Cut()],
        [text[:30], text[30:95], Cut()],
        [],
        [text[:98], RuntimeError("web socket")],
        [text[:-5], text[-5:]],
    )
    assert told(cluster) == ("one\ntwo\nthree\nfour\n", jobs.Ended(status=0))


def test_a_cluster_that_stays_away(clone):
    calls = []

    def connect():
        calls.append(1)
        raise ConnectionError("no route\nto host")

    with pytest.raises(jobs.Lost, match="^ConnectionError: no route$"):
        told(None, connect)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("status", "code", "message", "end"),
    [
        (Status.SUCCEEDED, 0, "", jobs.Ended(status=0)),
        (Status.FAILED, 1, "exit code 1", jobs.Ended(status=1)),
        (Status.FAILED, 2, "exit code 2", jobs.Ended(status=2)),
        (Status.FAILED, 127, "", jobs.Ended(status=1, message="the job failed")),
        (Status.FAILED, -9, "SIGKILL", jobs.Ended(status=1, message="the job failed: SIGKILL")),
        (Status.FAILED, None, "no env", jobs.Ended(status=1, message="the job failed: no env")),
        (Status.STOPPED, None, "", jobs.Ended(status=1, message="the job was stopped")),
    ],
)
def test_how_a_job_ended(status, code, message, end):
    cluster = FakeCluster([PREAMBLE + "x\n"], status=status, code=code, message=message)
    assert told(cluster)[1] == end


class OpenTunnel:
    def __init__(self, cluster):
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True

    def url(self):
        return "http://127.0.0.1:1"


@pytest.fixture
def reached(monkeypatch):
    """`submit` with a fake cluster behind the tunnel."""

    def reach(cluster, wants_token=False, **arguments):
        monkeypatch.setattr("mae_ablation.launch.tunnel.Tunnel", OpenTunnel)
        monkeypatch.setattr(jobs, "connect", lambda url, tokens: (cluster, wants_token))
        session = session_of("studies/x.yaml", lanes=2, **arguments)
        return submit.submit(session, CLUSTER)

    return reach


def test_ctrl_c_detaches_and_the_same_command_comes_back(clone, reached, capsys):
    cluster = FakeCluster([PREAMBLE + "one\n", KeyboardInterrupt()])
    assert reached(cluster, wants_token=True) == 130
    [job] = cluster.jobs
    assert capsys.readouterr().out == (
        "store on the cluster: ~/mae-ablation/store of its head: all nodes must share that "
        "folder, or name another with --store or in the cluster file, "
        "metadata: {mae_ablation: {store: s3://...}}\n"
        f"submitted as {job}; Ctrl-C detaches, the study goes on\n"
        "one\n"
        f"\ndetached; the study goes on on the cluster as {job}\n"
        "come back: the same command\n"
        f"stop it:   ray exec cluster.yaml 'RAY_AUTH_MODE=token ray job stop {job}'\n"
    )
    assert cluster.files == ["job.json", "studies/recipes/toy.yaml", "studies/x.yaml"]
    assert cluster.submitted[0]["entrypoint"].endswith(f" -m mae_ablation.launch.head {job}")

    cluster.connections = [[PREAMBLE + "one\ntwo\n", KeyboardInterrupt()]]
    assert reached(cluster, store="s3://mine/store") == 130, "another store is another job"
    assert len(cluster.jobs) == 2
    capsys.readouterr()
    cluster.connections = [[PREAMBLE + "one\ntwo\n", KeyboardInterrupt()]]
    assert reached(cluster) == 130
    assert len(cluster.jobs) == 2
    said = capsys.readouterr().out
    assert f"already running as {job}: attached to it\none\ntwo\n" in said
    assert f"stop it:   ray exec cluster.yaml 'ray job stop {job}'\n" in said


def test_a_lost_cluster_says_how_to_come_back(clone, reached, capsys):
    cluster = FakeCluster([PREAMBLE + "one\n", Cut("gone")], [Cut("gone")], [Cut("gone")], [])
    assert reached(cluster) == 1
    [job] = cluster.jobs
    assert f"the connection is lost (Cut: gone); the study goes on on the cluster as {job}\n" in (
        capsys.readouterr().out
    )


def test_what_the_jobs_user_error_leaves_at_home(clone, reached, capsys):
    cluster = FakeCluster(
        [PREAMBLE + "data set cifar10 is not in ...\n"], status=Status.FAILED, code=2
    )
    assert reached(cluster) == 2
    assert capsys.readouterr().out.endswith("data set cifar10 is not in ...\n")
    assert not (clone / "reports").exists()


def finish(folder, value, *, checkpoint=True, finished=True):
    """A phase as a run leaves it, with `value` for its loss."""
    folder.begin({"phase": "pretrain"})
    folder.journal.append(1, {"loss": value})
    folder.save_picture(1, b"png")
    if checkpoint:
        folder.save_checkpoint(1, f"weights {value}".encode())
    if finished:
        folder.finish({"train_loss": value, "seconds": 1.0})


def test_results_come_home_and_checkpoints_do_not(clone):
    plan = plan_study(Path("studies/x.yaml"), store="there")
    first, second = (trial.phases[0] for trial in plan.trials[:2])
    there, here = Store("there"), Store("here")
    finish(first.folder(there), 1.5)
    second.folder(there).begin({"phase": "pretrain"})
    second.folder(there).fail("pretrain: out of memory", "...")
    finish(first.folder(here), 9.0, finished=False)  # was begun here, and is finished there

    found = DataFacts(fingerprint="f", channels=3, train_images=5, test_images=6, classes=7)
    data = Data(name="imagenet", folder="/there/imagenet")
    declared = declare_plan(plan)
    declarations = packed_declarations([plan])
    pack_results(Path("home.zip"), begun_folders(plan.trials, there), [(data, found)], declarations)
    put, facts_there = unpack_results(Path("home.zip"), here)

    assert put == 2
    assert facts_there(Data(name="imagenet", folder="/other/place")) == found
    assert facts_there(Data(name="cifar10")) is None
    ours = first.folder(here)
    assert ours.result()["train_loss"] == 1.5 and ours.picture(1) == b"png"
    assert [row["m"]["loss"] for row in ours.journal.read()] == [1.5]
    assert ours.checkpoints() == [], "those were of the training that was interrupted here"
    assert second.folder(here).failure()["reason"] == "pretrain: out of memory"
    assert declared_in(replace(plan, store=here)) == declared
    assert unpack_results(Path("home.zip"), here)[0] == 1, (
        "the failed one only: it may have changed"
    )


def test_what_is_at_home_is_not_touched(clone):
    plan = plan_study(Path("studies/x.yaml"), store="there")
    first, second = (trial.phases[0] for trial in plan.trials[:2])
    there, here = Store("there"), Store("here")
    finish(first.folder(there), 1.5)
    finish(second.folder(there), 2.5, finished=False)
    finish(first.folder(here), 1.0)
    finish(second.folder(here), 2.0, finished=False)
    pack_results(Path("home.zip"), begun_folders(plan.trials, there), [], {})
    assert unpack_results(Path("home.zip"), here)[0] == 0
    assert first.folder(here).result()["train_loss"] == 1.0
    assert first.folder(here).sound_checkpoint()[1] == b"weights 1.0"
    assert second.folder(here).sound_checkpoint()[1] == b"weights 2.0"


def test_an_evaluation_of_what_was_trained_elsewhere_fails_in_one_line(clone):
    from mae_ablation.train.trial import run_trial

    plan = plan_study(Path("studies/x.yaml"), store="here")
    trial = plan.trials[0]
    finish(trial.phases[0].folder(Store("here")), 1.5, checkpoint=False)
    reason = run_trial(trial, "here")
    assert "has no checkpoint in this store" in reason and "\n" not in reason


def test_tokens_are_tried_one_after_another(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "by hand")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the file\n")
    assert list(jobs.tokens_here()) == [None, "by hand", "of the file"]


def test_the_head_gets_the_request_as_it_was_made(clone):
    asked = {"seeds": 3, "hours": 2.0, "gpus": 0.5, "phases": ["pretrain", "knn"], "price": 2.0}
    session = session_of("studies/x.yaml", cluster=Path("cluster.yaml"), **asked)
    (clone / "staged").mkdir()
    submit.stage_job(clone / "staged", session, replace(CLUSTER, store="s3://theirs/store"))
    spec = json.loads((clone / "staged" / "job.json").read_text())
    there = Request(**spec["request"])
    assert there == replace(session.request, cluster=None, store="s3://theirs/store")
    assert spec["mlflow"] is None


def test_the_source_of_a_plug_in_goes_along(clone, own_components):
    """The head finds the components in the request, whatever is installed there."""
    (clone / "mine.py").write_text(
        "from mae_ablation import register\n\n\n"
        "@register.target('mine', version=1)\nclass Mine:\n    pass\n"
    )
    study = "recipe: toy\nfactors:\n  target: [pixel, mine]\n"
    (clone / "studies" / "x.yaml").write_text(study)
    session = session_of("studies/x.yaml", plugins=("mine.py",))
    (clone / "staged").mkdir()
    name = submit.stage_job(clone / "staged", session, CLUSTER)
    spec = json.loads((clone / "staged" / "job.json").read_text())
    (sent,) = spec["plugins"]
    assert unpack_plugin(sent) == find_component("target", "mine").plugin
    assert spec["request"]["plugins"] == []  # no file there to be named
    assert not list((clone / "staged").rglob("*.py"))

    # another source is another job
    (clone / "mine.py").write_text((clone / "mine.py").read_text() + "# another line\n")
    (clone / "again").mkdir()
    assert (
        submit.stage_job(
            clone / "again", session_of("studies/x.yaml", plugins=("mine.py",)), CLUSTER
        )
        != name
    )


def test_a_head_that_lacks_packages_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(head, "find_spec", lambda name: None if name in ("timm", "PIL") else 1)
    assert head.run_job("mae-x-1") == 2
    assert capsys.readouterr().out == (
        "the cluster's head has no timm, pillow: add `pip install timm pillow` to setup_commands "
        "of the cluster file, and `ray up` again\n"
    )


def test_an_unreachable_head_is_one_line(clone, monkeypatch):
    from mae_ablation.launch import tunnel

    (clone / "ray").write_text("#!/bin/sh\necho noise; echo 'ssh: connect: refused'; exit 1\n")
    (clone / "ray").chmod(0o755)
    monkeypatch.setattr(tunnel, "ray_command", lambda *words: [str(clone / "ray"), *words])
    with pytest.raises(UserError) as error:
        submit.submit(session_of("studies/x.yaml"), CLUSTER)
    assert str(error.value) == (
        "./cluster.yaml: its head 10.0.0.1 cannot be reached (ssh: connect: refused): ray up "
        "./cluster.yaml, or stay on this machine with --local"
    )

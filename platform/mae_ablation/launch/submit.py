"""Studies on the cluster of a cluster file: submit, follow, bring home what they found."""

import json
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mae_ablation.data.catalog import facts
from mae_ablation.errors import UserError
from mae_ablation.launch import job as jobs
from mae_ablation.launch.head import FOLDER, SPEC, archive_of
from mae_ablation.launch.home import FactsThere, unpack
from mae_ablation.launch.place import Cluster, shown
from mae_ablation.recipe.recipe import Data
from mae_ablation.report.outcome import count_asked, looks_lines, overviews, show_reports
from mae_ablation.report.summary import ending
from mae_ablation.store.commit import code_commit
from mae_ablation.store.folder import Store
from mae_ablation.study.budget import with_budget
from mae_ablation.study.plan import Plan, make_plan
from mae_ablation.study.study import Study
from mae_ablation.study.suite import Suite, load_all, suites_of
from mae_ablation.study.trial import DataFacts
from mae_ablation.study.trouble import remedy_of

LOCAL_STORE = "store"
DETACHED = 130
UNFINISHED, USER_ERROR = 1, 2


def submit_studies(
    studies: Sequence[Path],
    *,
    cluster: Cluster,
    reports: Path,
    store: str | None = None,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    phases: Sequence[str] = (),
    until_decided: bool = False,
    most: int | None = None,
    **options: object,
) -> int:
    """Run studies on a cluster, show their output here, and bring their results home.

    Curves, results, pictures and failures come into ./store, from which the reports and MLflow are
    written as after a run on this machine. Checkpoints stay in the cluster's store.

    Args:
        cluster: see `cluster.place.find`.
        reports: folder of the reports, here.
        store: of the cluster, as its nodes see it; None: its file's, else ~/mae-ablation/store.
        options: further arguments of `commands.run_studies`.
        others: as in `commands.plan_studies`.

    Returns the exit status: 0 all done, 1 trials without a result or the connection lost, 2 an
    error that the job has said, 130 detached by Ctrl-C.

    Raises:
        UserError: what cannot be, or a head that cannot be reached.
    """
    from mae_ablation.launch.tunnel import Tunnel, TunnelLost

    asked = {"recipe": recipe, "changes": list(changes), "seeds": seeds, "phases": list(phases)}
    asked |= {"until_decided": until_decided, "most": most}
    loaded = load_all(studies, **asked)
    began = time.monotonic()
    say(store_line(cluster, store))
    with tempfile.TemporaryDirectory() as staged, Tunnel(cluster) as tunnel:
        spec = {**asked, **options, "mlflow": cluster.mlflow}
        spec["store"] = store or cluster.store or LOCAL_STORE
        base = prepare(Path(staged), studies, loaded, spec)

        def connect() -> tuple[jobs.Client, bool]:
            return jobs.connect(tunnel.url(), tokens(cluster))

        try:
            client, wants_token = connect()
        except TunnelLost as why:
            raise UserError(unreachable(cluster, why), shown(cluster.file)) from None
        job = start(client, base, Path(staged))
        try:
            end = jobs.follow(lambda: connect()[0], job, tell)
        except KeyboardInterrupt:
            say("\n" + goes_on("detached", cluster, job, wants_token))
            return DETACHED
        except jobs.Lost as why:
            say(goes_on(f"the connection is lost ({why})", cluster, job, wants_token))
            return UNFINISHED
    if end.message:
        say(f"{job}: {end.message}; the same command goes on from the last checkpoints")
    if end.status == USER_ERROR:
        return USER_ERROR
    came = bring_home(cluster, job, loaded, suites_of(studies), reports, began)
    return end.status if came else UNFINISHED


def prepare(folder: Path, studies: Sequence[Path], loaded: Sequence[Study], spec: dict) -> str:
    """Stage a working directory, with what `head` is to do; returns the job's id but for its
    number."""
    inside, recipe = jobs.stage(folder, studies, loaded, spec["recipe"])
    spec = {**spec, "studies": inside, "recipe": recipe}
    (folder / SPEC).write_text(json.dumps(spec, indent=1, sort_keys=True) + "\n")
    return jobs.base_id([path.stem for path in studies], folder)


def tell(text: str) -> None:
    """Output of the job, at once, also into a pipe."""
    print(text, end="", flush=True)


def say(line: str) -> None:
    print(line, flush=True)


def store_line(cluster: Cluster, store: str | None) -> str:
    """Where the cluster keeps checkpoints and results."""
    if store or cluster.store:
        return f"store on the cluster: {store or cluster.store}"
    return (
        f"store on the cluster: {FOLDER}/{LOCAL_STORE} of its head: all nodes must share that "
        "folder, or name another with --store or in the cluster file, "
        "metadata: {mae_ablation: {store: s3://...}}"
    )


def tokens(cluster: Cluster) -> Iterator[str | None]:
    """Tokens to try: none, those of this machine, that of the head's file."""
    from mae_ablation.launch.tunnel import TunnelLost, fetch

    yield from jobs.tokens_here()
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch(cluster, "~/.ray/auth_token", Path(folder, "token"))
            yield Path(folder, "token").read_text().strip()
        except TunnelLost:
            return


def unreachable(cluster: Cluster, why: Exception) -> str:
    return (
        f"its head {cluster.head} cannot be reached ({why}): ray up {shown(cluster.file)}, "
        "or stay on this machine with --local"
    )


def start(client: jobs.Client, base: str, folder: Path) -> str:
    """Submit the job, or find the same one that is running."""
    if job := jobs.running(client, base):
        say(f"already running as {job}: attached to it")
        return job
    job = jobs.next_id(client, base)
    jobs.submit(client, job, folder, code_commit())
    say(f"submitted as {job}; Ctrl-C detaches, the study goes on")
    return job


def goes_on(what: str, cluster: Cluster, job: str, wants_token: bool) -> str:
    """Lines on how to come back to a job, and how to stop it."""
    stop = f"{'RAY_AUTH_MODE=token ' * wants_token}ray job stop {job}"
    return "\n".join(
        [
            f"{what}; the study goes on on the cluster as {job}",
            "come back: the same command",
            f"stop it:   {shlex.join(['ray', 'exec', str(cluster.file), stop])}",
        ]
    )


def bring_home(
    cluster: Cluster,
    job: str,
    loaded: Sequence[Study],
    suites: Sequence[Suite],
    reports: Path,
    began: float,
) -> bool:
    """Fetch what the job has packed into ./store, and write the views here."""
    from mae_ablation.launch.tunnel import TunnelLost, fetch

    remote = f"{FOLDER}/{archive_of(job)}"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "home.zip")
        try:
            fetch(cluster, remote, archive)
        except TunnelLost as why:
            remedy = remedy_of(str(why), "the same command tries again")
            say(f"{remote} of the head could not be fetched ({why}): {remedy}")
            return False
        put, facts_there = unpack(archive, Store(LOCAL_STORE))
    say(f"home from {cluster.head}: {put} phases new in ./{LOCAL_STORE}, without checkpoints")
    show(loaded, suites, facts_there, reports, began)
    return True


def plan_of(study: Study, facts_there: FactsThere) -> Plan:
    """A study's plan over ./store, with the data as the cluster found it."""

    def facts_of(data: Data) -> DataFacts:
        return facts_there(data) or facts(data)

    return make_plan(with_budget(study, facts_of), Store(LOCAL_STORE), facts_of)


def show(
    loaded: Sequence[Study],
    suites: Sequence[Suite],
    facts_there: FactsThere,
    reports: Path,
    began: float,
) -> None:
    """MLflow and the reports, from the store here."""
    from mae_ablation.tracking.tracker import Tracker

    plans = [plan_of(study, facts_there) for study in loaded]
    tracker = Tracker(plans, Path.cwd())
    tracker.start()
    try:
        files = show_reports(plans, tracker, reports, lambda error: say(str(error)))
    finally:
        tracker.leave()
    say(overviews(suites, plans, reports))
    if decided := looks_lines(plans):
        say(decided.rstrip())
    asked, left = count_asked(plans)
    say(ending(asked, tracker, files, left, time.monotonic() - began))

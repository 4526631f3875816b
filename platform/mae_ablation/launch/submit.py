"""Studies on the cluster of a cluster file: submit, follow, bring home what they found."""

import json
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from mae_ablation.errors import NO_RESULT, USER_ERROR, UserError
from mae_ablation.launch import job as jobs
from mae_ablation.launch.download import unpack_results
from mae_ablation.launch.head import CLUSTER_FOLDER, SPEC, archive_of
from mae_ablation.launch.place import Cluster, shown
from mae_ablation.registry import plugins
from mae_ablation.report.outcome import conclude
from mae_ablation.run.session import Session
from mae_ablation.store.commit import code_commit
from mae_ablation.store.folder import Store
from mae_ablation.study.request import LOCAL_STORE, Request
from mae_ablation.study.trouble import remedy_of

DETACHED = 130


def submit(session: Session, cluster: Cluster) -> int:
    """Run a session's studies on a cluster, show their output here, and bring their results home.

    Curves, results, pictures and failures come into ./store, from which the reports and MLflow are
    written as after a run on this machine. Checkpoints stay in the cluster's store.

    Returns the exit status: 0 all done, 1 trials without a result or the connection lost, 2 an
    error that the job has said, 130 detached by Ctrl-C.

    Raises:
        UserError: what cannot be, or a head that cannot be reached.
    """
    from mae_ablation.launch.tunnel import Tunnel, TunnelLost

    began = time.monotonic()
    # where results lie on the cluster, and what that asks of its nodes
    place = store_there(session.request, cluster) or (
        f"{CLUSTER_FOLDER}/{LOCAL_STORE} of its head: all nodes must share that folder, or name "
        "another with --store or in the cluster file, metadata: {mae_ablation: {store: s3://...}}"
    )
    print_now(f"store on the cluster: {place}")
    with tempfile.TemporaryDirectory() as staged, Tunnel(cluster) as tunnel:
        base = stage_job(Path(staged), session, cluster)

        # start the job, or find it running
        try:
            client, wants_token = jobs.connect(tunnel.url(), tokens(cluster))
        except TunnelLost as why:
            remedy = f"ray up {shown(cluster.file)}, or stay on this machine with --local"
            message = f"its head {cluster.head} cannot be reached ({why}): {remedy}"
            raise UserError(message, shown(cluster.file)) from None
        job, is_running = jobs.find_job(client, base)
        if is_running:
            print_now(f"already running as {job}: attached to it")
        else:
            jobs.submit_job(client, job, Path(staged), code_commit())
            print_now(f"submitted as {job}; Ctrl-C detaches, the study goes on")

        # follow it until it ends or is left
        stop = f"{'RAY_AUTH_MODE=token ' * wants_token}ray job stop {job}"
        come_back = (
            f"; the study goes on on the cluster as {job}\ncome back: the same command\n"
            f"stop it:   {shlex.join(['ray', 'exec', str(cluster.file), stop])}"
        )
        try:
            end = jobs.follow(
                lambda: jobs.connect(tunnel.url(), tokens(cluster))[0],
                job,
                lambda text: print(text, end="", flush=True),
            )
        except KeyboardInterrupt:
            print_now(f"\ndetached{come_back}")
            return DETACHED
        except jobs.Lost as why:
            print_now(f"the connection is lost ({why}){come_back}")
            return NO_RESULT

    # its results, seen from here as after a run on this machine
    if end.message:
        print_now(f"{job}: {end.message}; the same command goes on from the last checkpoints")
    if end.status == USER_ERROR:
        return USER_ERROR
    return end.status if bring_home(session, cluster, job, began) else NO_RESULT


def stage_job(folder: Path, session: Session, cluster: Cluster) -> str:
    """Stage a working directory, with the request that `head` is to run; returns the job's id but
    for its number."""
    # paths as they are in there; the head is on the cluster, and asks for no other place
    request = session.request
    inside, recipe = jobs.stage(folder, request.studies, session.studies, request.recipe)
    there = replace(
        request,
        studies=inside,
        recipe=recipe,
        store=store_there(request, cluster) or LOCAL_STORE,
        reports="reports",
        local=False,
        address=None,
        cluster=None,
        plugins=(),
    )
    shipped = [plugin.packed() for plugin in plugins()]
    spec = {"request": asdict(there), "mlflow": cluster.mlflow, "plugins": shipped}
    text = json.dumps(spec, indent=1, sort_keys=True, default=str)
    (folder / SPEC).write_text(text + "\n")
    return jobs.base_id([path.stem for path in request.studies], folder)


def print_now(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def store_there(request: Request, cluster: Cluster) -> str | None:
    """Return the store that the command or the cluster file names, as the cluster's nodes see it;
    None where neither does."""
    return request.store if request.store != LOCAL_STORE else cluster.store


def tokens(cluster: Cluster) -> Iterator[str | None]:
    """Yield tokens to try: none, those of this machine, that of the head's file."""
    from mae_ablation.launch.tunnel import TunnelLost, fetch_file

    # the head's own token costs a copy through ssh, so it is tried last
    yield from jobs.tokens_here()
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch_file(cluster, "~/.ray/auth_token", Path(folder, "token"))
            yield Path(folder, "token").read_text().strip()
        except TunnelLost:
            return


def bring_home(session: Session, cluster: Cluster, job: str, began: float) -> bool:
    """Fetch what the job has packed into ./store, and write MLflow and the reports from it."""
    from mae_ablation.launch.tunnel import TunnelLost, fetch_file
    from mae_ablation.tracking.tracker import Tracker

    # the archive, put into the store
    remote, store = f"{CLUSTER_FOLDER}/{archive_of(job)}", Store(LOCAL_STORE)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "home.zip")
        try:
            fetch_file(cluster, remote, archive)
        except TunnelLost as why:
            remedy = remedy_of(str(why), "the same command tries again")
            print_now(f"{remote} of the head could not be fetched ({why}): {remedy}")
            return False
        put, facts_there = unpack_results(archive, store)
    results = f"{put} new result{'s' * (put != 1)} from {cluster.head}"
    print_now(f"downloaded {results} into ./{LOCAL_STORE}; checkpoints stay there")

    # from there on it is as if the trials had run here
    home = session.at_home(facts_there, store)
    tracker = Tracker(home.plans, Path.cwd())
    tracker.start()
    try:
        conclude(home, tracker, began, print_now)
    finally:
        tracker.leave()
    return True

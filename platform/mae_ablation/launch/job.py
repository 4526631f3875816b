"""Job: a study submitted to a cluster through Ray Jobs, followed from here and left to itself.

What is shipped is this package, the study files and their recipes: nothing else of the user's.
"""

import asyncio
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mae_ablation
from mae_ablation.errors import UserError, one_line
from mae_ablation.store.waiting import waiting
from mae_ablation.study.names import job_name
from mae_ablation.study.shipped import recipe_folders
from mae_ablation.study.study import Study

PYTHON = '"$(command -v python || command -v python3)"'
RECONNECT_AFTER_S = (1, 2, 5, 10, 20)
PREAMBLE = "Running entrypoint for job"
"""Ray's own line, the last before the output of ours"""
TALKATIVE = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""loggers that would tell of every upload"""
OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


class Lost(Exception):
    """The cluster cannot be reached any more; the job goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The end of a job."""

    status: int
    """exit status of the study: 0 all done, 1 a trial has no result, 2 an error of the user's"""
    message: str = ""
    """why, where the job itself has not said so"""


# what is shipped


def stage(
    folder: Path, given: Sequence[Path], studies: Sequence[Study], recipe: str | None
) -> tuple[list[str], str | None]:
    """Fill a working directory with study files, the recipes beside them and recipe files named.

    Files under the current directory keep their path; others get a folder of their own.

    Args:
        given: the files of the command line.
        studies: what was loaded from them: a suite's studies lie in files of their own.
        recipe: of the command line.

    Returns the paths of `given` and the name of `recipe` in there.

    Raises:
        UserError: a recipe file's name leads out of what is shipped.
    """
    inside = [ship_file(folder, file) for file in given]
    files = list(dict.fromkeys(study.recipe_path.absolute() for study in studies))
    named = files if recipe and is_file_name(recipe) and len(files) == 1 else []
    for study in studies:
        beside = (folder / ship_file(folder, study.path)).parent
        own, shipped = recipe_folders(study.path.parent)
        # of the recipes that ship only those that the study names
        named_here = [shipped / f"{name}.yaml" for name in (study.recipe_name, study.more)]
        for file in [*filter(Path.is_file, named_here), *own.glob("*.yaml")]:
            copy_file(file, beside / "recipes" / file.name)
        if is_file_name(study.recipe_name) and study.recipe_path.absolute() not in named:
            # where the study looks for it first, beside itself
            target = Path(os.path.normpath(beside / study.recipe_name))
            if not target.is_relative_to(folder):
                message = f"recipe {study.recipe_name} cannot be shipped: put it beside the study"
                raise UserError(message, str(study.path))
            copy_file(study.recipe_path, target)
    return inside, ship_file(folder, named[0]) if named else recipe


def ship_file(folder: Path, file: Path) -> str:
    """Copy a file of the user's into the folder, and return its path in there."""
    file, here = file.absolute(), Path.cwd()
    if file.is_relative_to(here):
        inside = file.relative_to(here)
    else:
        inside = Path("given", hashlib.sha256(bytes(file.parent)).hexdigest()[:8], file.name)
    copy_file(file, folder / inside)
    return str(inside)


def copy_file(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def is_file_name(recipe: str) -> bool:
    return recipe.endswith((".yaml", ".yml"))


# its name, and its start


def base_id(names: Sequence[str], folder: Path) -> str:
    """Name the job of a staged folder mae-STUDY-HASH: the same studies, recipes and arguments, the
    same id."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    name = job_name(names[0]) + ("-and-more" if len(names) > 1 else "")
    return f"mae-{name}-{digest.hexdigest()[:8]}"


def find_job(client: Any, base: str) -> tuple[str, bool]:
    """Return the job of this base id that is running, and True; else the id of the next, and False.

    Those are BASE, then BASE-2, BASE-3: Ray takes each id once in the life of a cluster.
    """
    number, pattern = 0, re.compile(re.escape(base) + r"(?:-(\d+))?")
    for job in client.list_jobs():
        if match := pattern.fullmatch(job.submission_id or ""):
            if not job.status.is_terminal():
                return job.submission_id, True
            number = max(number, int(match[1] or 1))
    return (f"{base}-{number + 1}" if number else base), False


def submit_job(client: Any, job: str, folder: Path, commit: str) -> None:
    """Ship the staged folder and this package, of that commit, and start the job."""
    client.submit_job(
        entrypoint=f"{PYTHON} -m mae_ablation.launch.head {job}",
        submission_id=job,
        runtime_env={
            "working_dir": str(folder),
            "py_modules": [str(Path(mae_ablation.__file__).parent)],
            "excludes": ["**/__pycache__"],
            "env_vars": {"MAE_ABLATION_COMMIT": commit},
        },
    )


# its output, and its end


def follow(connect: Callable[[], Any], job: str, write: Callable[[str], None]) -> Ended:
    """Write the job's output as it comes, until it ends.

    A lost connection is made again a few times, without a line lost or told twice.

    Raises:
        Lost: the cluster cannot be reached any more.
    """
    # a connection that brought something counts as a new first try
    output, tries = Output(write), 0
    while True:
        seen = output.seen
        try:
            client = connect()
            asyncio.run(output.read(client, job))
            details = client.get_job_info(job)
            if details.status.is_terminal():
                return read_end(details, output.began)
        except Exception as error:  # whatever ssh, HTTP or a web socket may raise
            reason = one_line(error)
        else:
            reason = "the connection closed"
        tries = 0 if output.seen > seen else tries
        if tries == len(RECONNECT_AFTER_S):
            raise Lost(reason)
        with waiting(f"the cluster, to ask it again ({reason})"):
            time.sleep(RECONNECT_AFTER_S[tries])
        tries += 1


class Output:
    """Passes on what follows Ray's preamble; a log that is read again is told from where it was."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._head = ""
        self.seen = 0
        """characters of the log so far"""
        self.began = False
        """the preamble is over"""

    async def read(self, client: Any, job: str) -> None:
        """Read the log from its beginning."""
        at = 0
        async for text in client.tail_job_logs(job):
            new = text[max(0, self.seen - at) :]
            at += len(text)
            self.seen = max(self.seen, at)
            if not self.began:
                self._head += new
                _, found, after = self._head.partition(PREAMBLE)
                if not found or "\n" not in after:
                    continue
                self.began, new = True, after.partition("\n")[2]
            if new:
                self._write(new)


def read_end(details: Any, said_something: bool) -> Ended:
    """Read from Ray's details of a job how it ended."""
    status = str(getattr(details.status, "value", details.status))
    if status == "SUCCEEDED":
        return Ended(status=0)
    if status == "STOPPED":
        return Ended(status=1, message="the job was stopped")
    code = details.driver_exit_code
    if code in (1, 2):
        return Ended(status=code)
    why = "" if said_something and code is not None and code > 0 else f": {details.message}"
    return Ended(status=1, message=f"the job failed{why}")


# the connection


def connect(url: str, tokens: Iterator[str | None]) -> tuple[Any, bool]:
    """Return a client of the dashboard at `url`, and True if it wanted a token.

    Args:
        tokens: tried one after another; None is no token.

    Raises:
        UserError: the cluster wants a token, and none of these.
    """
    with ray_addresses_hidden():
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"} if token else None
            try:
                client = JobSubmissionClient(url, headers=headers)
                client.list_jobs()  # asking for the version needs no token
                return client, bool(token) or os.environ.get("RAY_AUTH_MODE") == "token"
            except AuthenticationError:
                continue
    message = "the cluster wants a token: set RAY_AUTH_TOKEN, or put it into ~/.ray/auth_token"
    raise UserError(message)


def tokens_here() -> Iterator[str | None]:
    """Yield no token, then those of this machine."""
    yield None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        yield token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if file.is_file():
        yield file.read_text().strip()


@contextmanager
def ray_addresses_hidden() -> Iterator[None]:
    """Hide the environment's address, which Ray's client would rather take than the one given."""
    kept = {name: os.environ.pop(name) for name in OVERRIDES if name in os.environ}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("no_proxy", "NO_PROXY"):  # the tunnel's end is on this machine
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    try:
        yield
    finally:
        os.environ.update(kept)

"""Place: where a study runs. This machine, a Ray cluster by its address, or that of a cluster file.

Asked before every run, so a cluster file that is not filled in or whose cluster is not up costs
milliseconds and no import of Ray. Only a filled-in cloud file with credentials at hand asks the
cloud, which takes seconds.
"""

import json
import os
import socket
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from mae_ablation.errors import UserError
from mae_ablation.launch.cluster_file import ClusterFile, read_cluster_file, read_document
from mae_ablation.store.waiting import waiting
from mae_ablation.study.request import Request

USUAL = Path("cluster.yaml")
OTHERS = "--cluster FILE, --address A or RAY_ADDRESS choose another place"
HERE = "--local stays on this machine"
ASK_S = 20.0
HEAD_ANSWER_S = 0.3
AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """This machine alone ("local"), or a cluster that this process can join."""

    address: str
    line: str
    """printed first: the place, and how to choose another"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The running cluster of a `ray up` file, to which studies are submitted."""

    file: Path
    head: str
    """IP address of its head, as this machine reaches it"""
    store: str | None
    """`metadata: {mae_ablation: {store: ...}}` of the file"""
    mlflow: str | None
    """tracking URI as the head reaches it, from the same place"""
    line: str


class NotUp(Exception):
    """The cluster of a file cannot be used. The message goes on after the file's name.

    `error` is what whoever asked for this file is told.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


def choose_place(request: Request) -> Address | Cluster:
    """Choose where to run: as the request says, else RAY_ADDRESS, else a cluster that is up.

    Raises:
        UserError: the cluster of `--cluster` is not up, or its file is not filled in.
    """
    # as somebody says
    by, address = ("--local", "local") if request.local else ("--address", request.address)
    if request.cluster:
        try:
            return find_cluster(request.cluster)
        except NotUp as why:
            message = f"{request.cluster}: its cluster {why}: ray up {request.cluster}"
            raise UserError(why.error or message) from None
    if not address:
        by, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "")
    if address == "local":
        return Address(address=address, line=f"Ray: this machine, as {by} says ({OTHERS})")
    if address:
        return Address(address=address, line=f"Ray: the cluster at {address} ({by}); {HERE}")

    # as this machine and folder are
    if is_head() and not is_rehearsal(USUAL):
        line = f"Ray: the cluster whose head this machine is; {HERE}"
        return Address(address="auto", line=line)
    if not USUAL.is_file():
        return Address(address="local", line=f"Ray: this machine ({OTHERS})")
    try:
        return find_cluster(USUAL)
    except NotUp as why:
        line = f"Ray: this machine ({shown(USUAL)} {why}; {OTHERS})"
        return Address(address="local", line=line)


def shown(file: Path) -> str:
    """Write a path in the user's words: ./cluster.yaml for the one that lies here."""
    return f"./{file}" if len(file.parts) == 1 else str(file)


def find_cluster(file: Path) -> Cluster:
    """Find the running cluster of a file.

    Raises:
        NotUp: it is not running, or the file is not filled in.
    """
    # a file that is not ready costs no look at a cloud
    try:
        said = read_cluster_file(file)
    except UserError as error:
        raise NotUp("is no cluster file", str(error)) from None
    if said.placeholders:
        raise NotUp("is not filled in", said.placeholders[0])

    # its head, as Ray has noted it here or as the cloud knows it
    if said.provider == "local" and said.head_ip:
        head = find_local_head(said)
    elif said.provider == "aws" and not has_aws_credentials():
        raise NotUp(
            "cannot be looked up without AWS credentials",
            f"{file}: its cluster cannot be looked up: there are no AWS credentials here",
        )
    else:
        head = ask_head_ip(file)
    return Cluster(
        file=file,
        head=head,
        store=said.store,
        mlflow=said.mlflow,
        line=f"Ray: the cluster of {shown(file)} (head {head}); {HERE}",
    )


def ray_folder() -> Path:
    """Return the folder of Ray's notes on this machine."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(folder) / "ray"


def find_local_head(said: ClusterFile) -> str:
    """Find the head of machines of one's own: Ray notes in a file what `ray up` has started."""
    try:
        # a file of Ray's own, which older or newer versions may write in another way
        nodes = json.loads((ray_folder() / f"cluster-{said.name}.state").read_text())
        node = nodes[said.head_ip]
        up = (node["state"], node["tags"]["ray-node-status"]) == ("running", "up-to-date")
    except (OSError, ValueError, KeyError, TypeError):
        up = False
    if not up:
        raise NotUp("is not up")
    return node.get("external_ip") or said.head_ip


def has_aws_credentials() -> bool:
    """Return whether AWS could be asked, as far as variables and files say."""
    files = ("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")
    return any(map(os.environ.get, AWS_VARIABLES)) or any(
        Path(os.environ.get(variable, f"~/.aws/{name}")).expanduser().is_file()
        for variable, name in files
    )


def ray_command(*words: str) -> list[str]:
    """Return a command of this Python's `ray`: a script, which imports nothing from the working
    directory."""
    # the one beside this Python goes first: PATH may hold another version's
    beside = Path(sysconfig.get_path("scripts"), "ray")
    return [str(beside) if beside.exists() else which("ray") or "ray", *words]


def ask_head_ip(file: Path) -> str:
    """Ask `ray get-head-ip` for the address of a cluster's head. Raises NotUp."""
    try:
        with waiting(f"the head of {shown(file)}"):
            asked = subprocess.run(
                ray_command("get-head-ip", str(file)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASK_S,
            )
    except subprocess.TimeoutExpired:
        raise NotUp(f"did not answer within {ASK_S:.0f} s") from None
    except OSError:
        raise NotUp("cannot be looked up without the command `ray`") from None
    words = asked.stdout.split()
    if asked.returncode or not words:
        raise NotUp("is not up")
    return words[-1]


def is_head() -> bool:
    """Return whether this machine is the head of a running cluster that `ray up` has made."""
    if not Path("~/ray_bootstrap_config.yaml").expanduser().exists():
        return False
    try:
        # the file outlives a cluster, so its port is tried
        host, _, port = (ray_folder() / "ray_current_cluster").read_text().strip().rpartition(":")
        socket.create_connection((host, int(port)), HEAD_ANSWER_S).close()
        return True
    except (OSError, ValueError):
        return False


def is_rehearsal(file: Path) -> bool:
    """Return whether a file's cluster was started from the machine that is its head, too.

    The file then has the loopback address as the head's, or a key that lies here. On the head of
    a cluster that was started from elsewhere there is neither.
    """
    try:
        data = read_document(file).data
    except UserError:
        return False
    head, auth = data["provider"].get("head_ip"), data.get("auth")
    key = auth.get("ssh_private_key") if isinstance(auth, dict) else None
    if not isinstance(head, str):
        return False
    at_loopback = head == "localhost" or head.startswith("127.")
    return at_loopback or isinstance(key, str) and Path(key).expanduser().is_file()

"""A Ray cluster file: what a study needs to know of it, what is unfinished or unsafe in it.

Reads every file that `ray up` reads, whoever wrote it; Ray is imported for its own opinion alone.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from mae_ablation.errors import UserError
from mae_ablation.run.ray_private import check_cluster_config
from mae_ablation.study import document as yaml_document
from mae_ablation.study.document import Document, Key
from mae_ablation.study.flags import File

FILL_IN = "FILL IN"  # a text that starts with it, or the key of a mapping, is a placeholder
WORLD = ("0.0.0.0/0", "::/0")
EVERYWHERE = [("--dashboard-host", address) for address in ("0.0.0.0", "::")]
TOKEN, NO_USAGE = "RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"
TOKEN_FILE = "~/.ray/auth_token"
CLUSTER_REFUSED = 2
Template = Literal["aws", "aws-account", "local", "kubernetes", "slurm", "slurm-array"]
TEMPLATES: dict[Template, str] = {
    "aws": "aws.yaml",  # a copy of the repository's cluster.yaml; a test keeps them the same
    "aws-account": "aws-account.yaml",
    "local": "local.yaml",
    "kubernetes": "kuberay.yaml",
    "slurm": "slurm.sbatch",
    "slurm-array": "slurm-array.sbatch",
}
"""cluster files that come with the package"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """The part of a file of `ray up` that matters to a study."""

    name: str
    provider: str  # "aws", "local", ...; "unknown" until it is filled in
    head_ip: str | None  # of provider "local"
    store: str | None  # metadata.mae_ablation.store: a folder all machines have, or a URI
    mlflow: str | None  # metadata.mae_ablation.mlflow, as seen from the head
    placeholders: list[str]  # "cluster.yaml:30: fill in ..."


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a file of `ray up`. Raises UserError as `read_document` does."""
    document = read_document(path)
    data = document.data
    return ClusterFile(
        name=_text(data.get("cluster_name")) or "default",
        provider=_text(data["provider"]["type"]) or "unknown",
        head_ip=_text(data["provider"].get("head_ip")),
        store=_text(_ours(data).get("store")),
        mlflow=_text(_ours(data).get("mlflow")),
        placeholders=list_placeholders(document),
    )


def template(name: Template) -> str:
    """Print a cluster file to start from.

    Args:
        name: aws, aws-account (the stack in an account that it needs), local or kubernetes
    """
    path = Path(__file__).parent / "templates" / TEMPLATES[name]
    return path.read_text(encoding="utf-8")


def check_cluster_file(file: File = Path("cluster.yaml")) -> int:
    """Say what is unfinished or unsafe in a cluster file.

    Exit status 2: `ray up` would stop at it.

    Args:
        file: the cluster file (default: cluster.yaml)
    """
    errors = list_unfinished(file) or [line for line in [find_refusal(file)] if line]
    remarks = list_unsafe(file)
    for line in errors:
        print(line, file=sys.stderr)
    for line in remarks:
        print(line)
    if errors:
        return CLUSTER_REFUSED
    print(f"{file}: Ray accepts it" + ("; see the remarks above" if remarks else ""))
    return 0


def find_refusal(path: Path) -> str | None:
    """Say why `ray up` would refuse the file, as `file:line: text`; None: it would not.

    Asks no cloud. Imports Ray, which takes a second.
    """
    import click
    from jsonschema import ValidationError

    document = read_document(path)
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Ray prints what it then raises
            check_cluster_config(document.data)
    except ValidationError as error:
        return f"{document.place(*error.absolute_path)}: Ray refuses it: {error.message}"
    except click.ClickException as error:
        return f"{path}: Ray refuses it: {error.message}"
    except Exception as error:  # Ray stumbles over some files instead of refusing them
        return f"{path}: Ray refuses it: {type(error).__name__}: {error}"
    return None


def list_unfinished(path: Path) -> list[str]:
    """List what stops `ray up`: placeholders, and files that are to be copied and do not exist."""
    document = read_document(path)
    return list_placeholders(document) + list(_missing_files(document))


def list_unsafe(path: Path) -> list[str]:
    """List what `ray up` accepts and a study or its owner will suffer from."""
    document = read_document(path)
    roles = ["head", "worker"] if _has_workers(document.data) else ["head"]
    return [
        *_open_to_the_world(document),
        *_head_start(document),
        *(line for role in roles for line in _starts(document, role)),
        *_no_store(document),
    ]


def read_document(path: Path) -> Document:
    """Read a file of `ray up`, and the line of every key.

    Raises:
        UserError: it cannot be read, or is another file.
    """
    # its data as Ray reads it, and the line of each key
    lines: dict[Key, int] = {}
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(text)  # as Ray does; Document's own reader knows no merge keys
        _note_lines(yaml.compose(text, Loader=yaml.SafeLoader), (), lines)
    except yaml.MarkedYAMLError as error:
        raise yaml_document.invalid(error, str(path)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        yaml_document.read_yaml(path)  # says what is wrong, and where
        raise
    except ValueError as error:  # a date that is none
        raise UserError(f"not valid YAML: {error}", str(path)) from None

    # what is no cluster file
    if not isinstance(data, dict):
        raise UserError("not a Ray cluster file: expected `cluster_name` and `provider`", str(path))
    document = Document(path, data, lines)
    if "apiVersion" in data:
        raise UserError("a Kubernetes manifest, not a file for `ray up`", f"{path}:1")
    if not isinstance(_at(data, "provider", "type"), str):
        raise UserError("not a Ray cluster file: provider.type is missing", document.place())
    return document


def _note_lines(node: yaml.Node, key: Key, lines: dict[Key, int]) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _note_lines(item, (*key, i), lines)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            lines[(*key, name.value)] = name.start_mark.line + 1
            _note_lines(value, (*key, name.value), lines)


def _at(data: object, *key: str) -> object:
    for name in key:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and not value.startswith(FILL_IN) else None


def _ours(data: dict) -> dict:
    ours = _at(data, "metadata", "mae_ablation")
    return ours if isinstance(ours, dict) else {}


def _list(data: dict, *key: str) -> list:
    value = _at(data, *key)
    return value if isinstance(value, list) else []


def list_placeholders(document: Document) -> list[str]:
    """List the texts and mappings of a file that say FILL IN, each in a line with its place."""
    found = [f"{document.place(*key)}: fill in {what}" for key, what in _blanks(document.data, ())]
    return list(dict.fromkeys(found))  # a YAML alias repeats its anchor's


def _blanks(value: object, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str) and value.startswith(FILL_IN):
        yield key, value.removeprefix(FILL_IN).strip()
    elif isinstance(value, dict) and FILL_IN in value:
        yield key, str(value[FILL_IN])
    elif isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _blanks(item, (*key, name))


def _missing_files(document: Document) -> Iterator[str]:
    """Ray reads these only after it has launched the head, which then goes on to cost."""
    mounts = document.data.get("file_mounts")
    for target, source in mounts.items() if isinstance(mounts, dict) else ():
        if _text(source) and not Path(source).expanduser().exists():
            remedy = "run `ray up` in the repository's folder"
            if source == TOKEN_FILE:
                remedy = "make it by `ray get-auth-token --generate`"
            yield f"{document.place('file_mounts', target)}: {source} does not exist: {remedy}"


def _open_to_the_world(document: Document) -> Iterator[str]:
    if document.data["provider"]["type"] != "aws":
        return
    rules = _list(document.data, "provider", "security_group", "IpPermissions")
    for i, rule in enumerate(rules):
        if any(address in str(rule) for address in WORLD):
            place = document.place("provider", "security_group", "IpPermissions", i)
            yield f"{place}: this rule opens port {_at(rule, 'FromPort')} to the world"
    types = _at(document.data, "available_node_types")
    for name in types if isinstance(types, dict) else ():
        settings = _at(types, name, "node_config") or {}
        if not {"SecurityGroupIds", "NetworkInterfaces", "LaunchTemplate"} & set(settings):
            place = document.place("available_node_types", name)
            yield f"{place}: no SecurityGroupIds: Ray makes a group that opens ssh to the world"


def _has_workers(data: dict) -> bool:
    if data["provider"]["type"] == "local" and "coordinator_address" not in data["provider"]:
        return bool(data["provider"].get("worker_ips"))
    return data.get("max_workers") != 0


def _ray_starts(document: Document, role: str) -> Iterator[tuple[str, str]]:
    """Yield place and text of each `ray start` of the head or of a worker."""
    commands = f"{role}_start_ray_commands"
    for i, command in enumerate(_list(document.data, commands)):
        if "ray start" in str(command):
            yield document.place(commands, i), str(command)


def _starts(document: Document, role: str) -> Iterator[str]:
    # what every shell of a node sets counts as well as the start command itself
    elsewhere = str([document.data.get(key) for key in ("setup_commands", "docker")])
    elsewhere += str(document.data.get(f"{role}_setup_commands"))
    starts = list(_ray_starts(document, role))
    if not starts:
        place = document.place(f"{role}_start_ray_commands")
        yield f"{place}: no {role}_start_ray_commands with `ray start`: Ray's own know no token"
    for place, command in starts:
        if "OMP_NUM_THREADS" not in command.partition("ray start")[0]:
            yield (
                f"{place}: no `unset OMP_NUM_THREADS;` before `ray start`: `ray up` sets it to 1, "
                "and a trial would use one core"
            )
        if TOKEN not in command + elsewhere:
            yield f"{place}: no {TOKEN}: whoever reaches the machine's ports may run commands"
        if role == "head" and NO_USAGE not in command + elsewhere:
            yield f"{place}: no {NO_USAGE}: Ray sends usage statistics"


def _head_start(document: Document) -> Iterator[str]:
    for place, command in _ray_starts(document, "head"):
        words = command.replace("=", " ").split()
        if any(pair in EVERYWHERE for pair in zip(words, words[1:], strict=False)):
            yield (
                f"{place}: the dashboard listens on every address; use --dashboard-host=127.0.0.1 "
                f"and `ray dashboard {document.path}`"
            )
        if _has_workers(document.data) and "--autoscaling-config" not in words:
            yield f"{place}: no --autoscaling-config: the head will start no worker"


def _no_store(document: Document) -> Iterator[str]:
    on_premises = document.data["provider"]["type"] == "local"
    if not on_premises and _has_workers(document.data) and not _ours(document.data).get("store"):
        yield (
            f"{document.place('metadata', 'mae_ablation')}: no metadata.mae_ablation.store: "
            "the machines share no folder; give one such as s3://bucket/mae-ablation"
        )

"""Ray's own opinion of a cluster file, without asking a cloud."""

import contextlib
import io
import logging
import sys
from pathlib import Path

from mae_ablation.launch.cluster_file import read_document, unfinished, unsafe
from mae_ablation.run.ray_private import check_cluster_config
from mae_ablation.study.flags import File

USER_ERROR = 2


def check_cluster_file(file: File = Path("cluster.yaml")) -> int:
    """Say what is unfinished or unsafe in a cluster file.

    Exit status 2: `ray up` would stop at it.

    Args:
        file: the cluster file (default: cluster.yaml)
    """
    errors, remarks = unfinished(file), unsafe(file)
    if not errors:
        errors = [line for line in [refusal(file)] if line]
    for line in errors:
        print(line, file=sys.stderr)
    for line in remarks:
        print(line)
    if errors:
        return USER_ERROR
    print(f"{file}: Ray accepts it" + ("; see the remarks above" if remarks else ""))
    return 0


def refusal(path: Path) -> str | None:
    """Say why `ray up` would refuse the file, as `file:line: text`; None: it does not.

    Imports Ray, which takes a second.
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

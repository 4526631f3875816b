"""The cluster files that come with the package."""

from pathlib import Path
from typing import Literal

Name = Literal["aws", "aws-account", "local", "kubernetes"]
FILES: dict[Name, str] = {
    "aws": "aws.yaml",  # a copy of the repository's cluster.yaml; a test keeps them the same
    "aws-account": "aws-account.yaml",
    "local": "local.yaml",
    "kubernetes": "kuberay.yaml",
}


def template(name: Name) -> str:
    """Print a cluster file to start from.

    Args:
        name: aws, aws-account (the stack in an account that it needs), local or kubernetes
    """
    path = Path(__file__).parent / "templates" / FILES[name]
    return path.read_text(encoding="utf-8")

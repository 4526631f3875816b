"""The cluster files that come with the package."""

from pathlib import Path

HERE = Path(__file__).parent / "templates"
FILES = {
    "aws": "aws.yaml",
    "aws-account": "aws-account.yaml",
    "local": "local.yaml",
    "kubernetes": "kuberay.yaml",
}


def template(name: str) -> str:
    """Text of a shipped file, `name` out of FILES.

    The one for AWS is the repository's own cluster.yaml; a wheel carries it as aws.yaml.
    """
    path = HERE / FILES[name]
    if name == "aws" and not path.exists():
        path = Path(__file__).parents[3] / "cluster.yaml"
    return path.read_text(encoding="utf-8")

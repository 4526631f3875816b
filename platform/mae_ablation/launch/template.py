"""The cluster files that come with the package."""

from pathlib import Path

FILES = {
    "aws": "aws.yaml",  # a copy of the repository's cluster.yaml; a test keeps them the same
    "aws-account": "aws-account.yaml",
    "local": "local.yaml",
    "kubernetes": "kuberay.yaml",
}


def template(name: str) -> str:
    """Text of a shipped file, `name` out of FILES."""
    path = Path(__file__).parent / "templates" / FILES[name]
    return path.read_text(encoding="utf-8")

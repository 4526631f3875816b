"""The house: imports point downwards, Ray and MLflow have one home each, the core is pure."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "platform" / "mae_ablation"
LEVELS = {
    "store": 0,
    "study": 1,
    "data": 2,
    "mae": 2,
    "phases": 3,
    "cluster": 4,
    "tracking": 4,
    "report": 4,
    "bench": 5,
}
HOMES = {
    "ray": {"cluster", "bench"},
    "mlflow": {"tracking"},
    "torch": {"mae", "data", "phases", "cluster", "bench"},
    "lightly": {"bench"},
    "transformers": {"bench"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    room = path.relative_to(PACKAGE).parts[0]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] in HOMES:
            assert room in HOMES[parts[0]], f"{path} imports {name}"
        if parts[0] == "platform" and len(parts) > 1:
            pytest.fail(f"{path} imports {name}: always mae_ablation, never platform.mae_ablation")
        if room in LEVELS and parts[0] == "mae_ablation" and len(parts) > 2:
            other = parts[1]
            assert other == room or LEVELS[other] < LEVELS[room], f"{path} imports {name}"


def test_the_way_to_a_plan_is_free_of_heavy_imports():
    code = (
        "import sys, mae_ablation.cli as c\n"
        "assert c.main_run(['studies/mask_ratio.yaml', '--plan']) == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'timm', 'pandas', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

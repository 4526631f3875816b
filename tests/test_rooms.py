"""The house: imports point downwards, Ray and MLflow have one home each, the core is pure."""

import ast
import subprocess
import sys

from conftest import ROOT

PACKAGE = ROOT / "platform" / "mae_ablation"
LEVELS = {
    "errors": -1,
    "store": 0,
    "registry": 1,
    "recipe": 2,
    "study": 3,
    "data": 4,
    "mae": 4,
    "train": 5,
    "run": 6,
    "tracking": 7,
    "report": 7.5,
    "doctor": 8,
    "launch": 9,
    "api": 10,
    "cli": 11,
    "__init__": 1.5,
    "__main__": 12,
}
"""Every file of the package is under one of these rooms; imports point to lower ones."""
HOMES = {
    "ray": {"run", "launch"},
    "mlflow": {"tracking"},
    "torch": {"mae", "data", "train", "run"},
    "lightly": set(),
    "transformers": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_imports_point_downwards():
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            first, *others = name.split(".")
            assert room in HOMES.get(first, {room}), f"{path} imports {name}"
            assert not (first == "platform" and others), f"{path}: {name}, not mae_ablation"
            if first == "mae_ablation":
                other = others[0] if others else "__init__"
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


def test_helpers_are_in_toys_and_not_in_another_test():
    for path in (ROOT / "tests").glob("*.py"):
        assert not [name for name in imported(path) if name.startswith("test_")], path.name

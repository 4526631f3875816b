"""The folder `platform/` takes the place of the standard library's module without a trace."""

import subprocess
import sys

from conftest import ROOT

COMPARE = """
import importlib.util, os, sys
def load(name, path, **kw):
    spec = importlib.util.spec_from_file_location(name, path, **kw)
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); return module
path = os.path.join(os.path.dirname(os.__file__), "platform.py")
stdlib = set(vars(load("stdlib_platform", path)))
import platform
assert platform.__path__, platform
ours = set(vars(platform)) - {"run", "mae_ablation"}
assert ours - stdlib <= {"__path__"}, ours - stdlib
assert stdlib - ours == set(), stdlib - ours
assert platform.system() == "Linux" or platform.system()
"""


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_has_the_names_of_the_standard_module_and_no_others():
    python(COMPARE)


def test_libraries_that_use_the_standard_module_work_from_the_repository_root():
    python("import torch, ray, mlflow, timm, platform; assert platform.uname().system" + COMPARE)


def test_the_package_has_one_identity():
    python("import platform.run, sys; assert 'platform.mae_ablation' not in sys.modules")

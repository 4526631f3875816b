"""A user's components as source: read, hashed, shipped and run; registry.py holds what they enter.

The source is part of the identity of every phase that uses them, and travels with a run to other
machines.
"""

import atexit
import hashlib
import re
import shutil
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from mae_ablation.errors import UserError, one_line

NO_MODULE = "no such module: give the path of a Python file, or a module"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """Source of a user's components, as it is at work and as it travels."""

    name: str
    """the command or the entry point names it so"""
    module: str
    """name by which it is imported"""
    files: tuple[tuple[str, bytes], ...]
    """source by relative path: the file itself, or all Python files of a module's package"""
    entry: bool = False
    """an installed entry point names it, and no command needs to"""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over the files; a single one may lie, and be called, anyhow."""
        # lengths are hashed, too: text cannot move from one file to the next unnoticed
        digest = hashlib.sha256()
        for path, source in self.files:
            name = "" if len(self.files) == 1 else path
            digest.update(f"{name}\0{len(source)}\0".encode() + source)
        return digest.hexdigest()[:12]

    def packed(self) -> dict[str, Any]:
        """Return what `unpack_plugin` makes it of again, as JSON holds it."""
        files = [[path, source.decode("utf-8", "surrogateescape")] for path, source in self.files]
        return {**asdict(self), "files": files}

    def __str__(self) -> str:
        return f"{self.name} ({self.hash})"

    def put_on_path(self) -> None:
        """Write a package that was shipped where Python finds it; methods may import it later."""
        # a single file needs none: it is run from memory
        folder = tempfile.mkdtemp(prefix="mae-plugin-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for path, source in self.files:
            if path != self.name:
                Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, path).write_bytes(source)
        sys.path.insert(0, folder)

    def run(self) -> None:
        """Run its code. Raises UserError, one line with file and line, for what that raises."""
        try:
            if self.files[0][0] != self.name:
                import_module(self.module)
                return
            # a single file is a module of its own name, run from the source that was hashed
            path, source = self.files[0]
            module = module_from_spec(spec_from_loader(self.module, loader=None))
            module.__file__ = path
            sys.modules[self.module] = module
            exec(compile(source, path, "exec"), module.__dict__)
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever the user's code may do, SystemExit too
            if isinstance(error, ModuleNotFoundError) and error.name == self.module:
                raise UserError(NO_MODULE, self.name) from None
            # the line in the user's own files that is nearest to the trouble
            frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
            ours = [f for f in frames if any(f[0].endswith(path) for path, _ in self.files)]
            if isinstance(error, SyntaxError):
                ours = [(error.filename, error.lineno)]
            place = "{}:{}".format(*ours[-1]) if ours else self.name
            raise UserError(f"raises at import: {one_line(error)}", place) from None


def unpack_plugin(packed: dict[str, Any]) -> Plugin:
    """Make the plug-in that was `packed`."""
    files = ((path, text.encode("utf-8", "surrogateescape")) for path, text in packed["files"])
    return Plugin(**{**packed, "files": tuple(files)})


def read_plugin(named: str, entry: str = "") -> Plugin:
    """Read the source of a file, or of the whole package of a module, that somebody names.

    Args:
        entry: name of the installed entry point that names it.

    Raises:
        UserError: neither a file nor a module.
    """
    path = Path(named).expanduser()
    if path.is_file():
        return read_plugin_file(path, named)
    if named.endswith(".py"):
        raise UserError("no such file: give the path of a Python file, or a module", named)

    # all of the top package, since any of its modules may change what a component does
    spec = PathFinder.find_spec(named.partition(".")[0], [str(Path.cwd()), *sys.path])
    if spec is None or not spec.origin:
        raise UserError(NO_MODULE, named)
    origin = Path(spec.origin)
    package = origin.parent if spec.submodule_search_locations else None
    found = sorted(package.rglob("*.py")) if package else [origin]
    root = package.parent if package else origin.parent
    files = tuple((each.relative_to(root).as_posix(), each.read_bytes()) for each in found)
    return Plugin(name=entry or named, module=named, files=files, entry=bool(entry))


def read_plugin_file(path: Path, named: str) -> Plugin:
    """Read a single file, as a module of its own name."""
    module = f"mae_ablation_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"
    return Plugin(name=named, module=module, files=((named, path.read_bytes()),))

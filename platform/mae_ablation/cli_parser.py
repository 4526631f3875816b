"""Parser: argparse whose errors are one line with the nearest known word."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from mae_ablation.errors import UserError, unknown

CHOICE = re.compile(r"argument (.+?): invalid choice: ['\"]?(.*?)['\"]? \(choose from (.*)\)$")


class Parser(argparse.ArgumentParser):
    """Flags are written out in full; examples keep their lines."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**{**options, "allow_abbrev": False})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Raises UserError for what is not known: the inner parser knows best."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(self._surplus(rest))
        return found, rest

    def error(self, message: str) -> None:
        """Raises UserError, instead of the usage's many lines."""
        if match := CHOICE.match(message):
            name, given, known = match.groups()
            message = unknown(name.lower(), given, re.findall(r"[\w-]+", known))
        raise UserError(f"{message}; {self.prog} --help says more", self.prog)

    def _surplus(self, rest: Sequence[str]) -> str:
        flags = [word for word in rest if word.startswith("-")]
        if not flags:
            return f'unexpected "{rest[0]}"'
        name = flags[0].split("=")[0]
        return unknown("flag", name, re.findall(r"--[\w-]+", self.format_help()))

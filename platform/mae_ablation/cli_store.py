"""Command line of the store: `python -m platform store {ls, show, verify, gc, export, import}`."""

import argparse
import sys
from pathlib import Path

from mae_ablation import store_commands
from mae_ablation.api import plan_studies, require_readable
from mae_ablation.cli_flags import STUDY, add_study, named
from mae_ablation.errors import UserError
from mae_ablation.store.folder import Store
from mae_ablation.store.paths import expanded

EXAMPLES = """examples:
  %(prog)s ls
  %(prog)s show 3f2a9c
  %(prog)s verify --store s3://bucket/store
  what no file in studies/ needs; --yes deletes it:
  %(prog)s gc
  results for somebody else, and into another store:
  %(prog)s export results.zip \\
      studies/mask_ratio.yaml
  %(prog)s import results.zip
"""


def add_store_commands(parser: argparse.ArgumentParser, add_store) -> None:
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="every phase, its size and state")
    show = actions.add_parser("show", help="everything that is known of a phase")
    verify = actions.add_parser("verify", help="check every file against its checksum")
    gc = actions.add_parser("gc", help="list what no study needs; delete it with --yes")
    export = actions.add_parser("export", help="finished results as one zip file")
    importing = actions.add_parser("import", help="put an export's results into the store")
    for action in (ls, show, verify, gc, importing):
        add_store(action)
    show.add_argument("identity", metavar="ID", help="of a phase, or its beginning")
    verify.add_argument("identities", nargs="*", metavar="ID", help="of phases; none: all")
    verify.add_argument(
        "--mend", action="store_true", help="have what rests on a damaged checkpoint run again"
    )
    gc.add_argument("studies", nargs="*", type=expanded, metavar="STUDY.yaml")
    gc.add_argument("--yes", action="store_true", help="delete")
    export.add_argument("file", type=expanded, metavar="RESULTS.zip")
    add_study(export)
    importing.add_argument("file", type=expanded, metavar="RESULTS.zip")
    ls.set_defaults(command=do_ls)
    show.set_defaults(command=do_show)
    verify.set_defaults(command=do_verify)
    gc.set_defaults(command=do_gc)
    export.set_defaults(command=do_export)
    importing.set_defaults(command=do_import)


def do_ls(arguments: argparse.Namespace) -> int:
    require_store(arguments.store)
    return say(store_commands.listing(arguments.store))


def do_show(arguments: argparse.Namespace) -> int:
    require_store(arguments.store)
    return say(store_commands.show(arguments.store, arguments.identity))


def do_verify(arguments: argparse.Namespace) -> int:
    require_store(arguments.store)
    lines, left = store_commands.verify(arguments.store, arguments.identities, mend=arguments.mend)
    say(lines)
    return 1 if left else 0


def do_gc(arguments: argparse.Namespace) -> int:
    require_store(arguments.store)
    studies = arguments.studies or sorted(Path("studies").glob("*.yaml"))
    return say(store_commands.collect(arguments.store, studies, yes=arguments.yes))


def do_export(arguments: argparse.Namespace) -> int:
    require_store(arguments.store)
    plans = plan_studies(**named(arguments, STUDY))
    lines, lacking = store_commands.export_results(plans, arguments.file)
    say(lines)
    for line in lacking:
        print(line, file=sys.stderr)
    return 1 if lacking else 0


def do_import(arguments: argparse.Namespace) -> int:
    return say(store_commands.import_results(arguments.file, arguments.store))


def require_store(store: str) -> None:
    """Raises UserError for a place that cannot be read or has nothing in it."""
    require_readable(store)
    if not Store(store).files.names(""):
        raise UserError("there is no store", store)


def say(lines) -> int:
    for line in lines:
        print(line)
    return 0

"""Command line of cluster files: `cluster template NAME`, `cluster check [FILE]`."""

import argparse
import sys
from pathlib import Path

from mae_ablation.store.paths import expanded

USER_ERROR = 2
EXAMPLES = """examples:
  %(prog)s template aws > cluster.yaml
  %(prog)s check
"""


def add_cluster(parser: argparse.ArgumentParser) -> None:
    from mae_ablation.launch.template import FILES

    parser.epilog = EXAMPLES
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    template = commands.add_parser("template", help="print a cluster file to start from")
    template.add_argument("name", choices=FILES, metavar="NAME", help=f"one of {', '.join(FILES)}")
    template.set_defaults(command=do_template)
    check = commands.add_parser("check", help="what is unfinished or unsafe in a cluster file")
    check.add_argument("file", nargs="?", type=expanded, default=Path("cluster.yaml"))
    check.set_defaults(command=do_check)


def do_template(arguments: argparse.Namespace) -> int:
    from mae_ablation.launch.template import template

    print(template(arguments.name), end="")
    return 0


def do_check(arguments: argparse.Namespace) -> int:
    """Exit status 2 for a file that `ray up` would stop at; what is only unsafe is a remark."""
    from mae_ablation.launch.cluster_file import unfinished, unsafe

    errors, remarks = unfinished(arguments.file), unsafe(arguments.file)
    if not errors:
        from mae_ablation.launch.validation import refusal

        errors = [line for line in [refusal(arguments.file)] if line]
    for line in errors:
        print(line, file=sys.stderr)
    for line in remarks:
        print(line)
    if not errors:
        print(f"{arguments.file}: Ray accepts it" + ("; see the remarks above" if remarks else ""))
    return USER_ERROR if errors else 0

"""Command line of comparisons: `python -m platform compare A B`."""

import argparse
import shutil
from pathlib import Path

from mae_ablation.cli_flags import folder
from mae_ablation.cli_store import say
from mae_ablation.errors import UserError
from mae_ablation.report.saved import open_report
from mae_ablation.store.paths import expanded
from mae_ablation.study.places import require_place, written

EXAMPLES = """examples:
  %(prog)s mask_ratio mask_ratio-pretrain.epochs-14     two reports in ./reports
  %(prog)s old/reports/target reports/target            two commits
  %(prog)s mask_ratio mask_ratio-cifar10 --out both.md  two recipes, as a page"""


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    for name in "AB":
        parser.add_argument(name.lower(), metavar=name, help="folder of a report, or its name")
    parser.add_argument(
        "--reports", type=folder, default=Path("reports"), help="default: ./reports"
    )
    parser.add_argument("--out", type=expanded, metavar="FILE.md", help="write it as Markdown too")
    parser.set_defaults(command=do_compare)


def do_compare(arguments: argparse.Namespace) -> int:
    if arguments.out:
        require_place(arguments.out)
    one, two = (open_report(name, arguments.reports) for name in (arguments.a, arguments.b))

    from mae_ablation.report.compare import as_markdown, as_text, compare

    found = compare(one, two)
    say(as_text(found, shutil.get_terminal_size((100, 24)).columns).splitlines())
    if not any(len(part.table) > 1 for part in found.sections):
        message = "no level of one is in the other: there is nothing to compare"
        raise UserError(message, f"{one.folder} and {two.folder}")
    if arguments.out:
        with written(arguments.out) as file:
            file.write(as_markdown(found).encode())
        say([arguments.out])
    return 0

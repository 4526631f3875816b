"""Command line of what lies on this machine: data, ui, doctor."""

import argparse
from pathlib import Path

from mae_ablation.cli_flags import add_store, port, positive
from mae_ablation.store.paths import expanded

USER_ERROR = 2
DATA_EXAMPLES = """examples:
  %(prog)s data/imagenet
  %(prog)s data/imagenet --classes 1000
"""
UI_EXAMPLES = """examples:
  %(prog)s
  %(prog)s --port 5001
"""
DOCTOR_EXAMPLES = """examples:
  %(prog)s
  start Ray, too, and stop it again:
  %(prog)s --start
"""


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.epilog = DATA_EXAMPLES
    parser.add_argument("folder", type=expanded, help="holds train/CLASS/ and val/CLASS/")
    parser.add_argument("--classes", type=positive, metavar="N", help="how many there should be")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="default: 2")
    parser.set_defaults(command=do_data)


def do_data(arguments: argparse.Namespace) -> int:
    from mae_ablation.data.folder import check_layout, listing

    folder = arguments.folder
    check_layout(folder, arguments.classes)

    from mae_ablation.data.examine import examine, told

    seen = list(examine(folder, arguments.workers))
    broken = [each for each in seen if each.reason]
    for each in broken:
        print(f"{folder / each.name}: cannot be read as an image: {each.reason}")
    for line in told(listing(folder), seen):
        print(line)
    return USER_ERROR if broken else 0


def add_ui(parser: argparse.ArgumentParser) -> None:
    parser.epilog = UI_EXAMPLES
    parser.add_argument("--port", type=port, default=5000, help="default: 5000")
    parser.set_defaults(command=do_ui)


def do_ui(arguments: argparse.Namespace) -> int:
    from mae_ablation.tracking.ui import serve

    return serve(Path.cwd(), arguments.port)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = "Checks this machine. Exit status 1: something FAILs."
    parser.epilog = DOCTOR_EXAMPLES
    add_store(parser)
    parser.add_argument("--start", action="store_true", help="start Ray and stop it again")
    parser.set_defaults(command=do_doctor)


def do_doctor(arguments: argparse.Namespace) -> int:
    from mae_ablation.doctor import examine

    failed = False
    for finding in examine(arguments.store, start=arguments.start):
        print(finding, flush=True)
        failed |= finding.state == "FAIL"
    return int(failed)

"""Command line: parses, calls, prints. The commands themselves are in commands.py.

python -m platform.run STUDY         run a study (also: python -m mae_ablation run STUDY)
python -m platform report STUDY      write its report again from the store
python -m platform ui                browse the results in MLflow
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mae_ablation.commands import (
    plan_study,
    require_writable,
    run_study,
    summary,
    trial_lines,
)
from mae_ablation.study.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130
EXAMPLES = """examples:
  %(prog)s studies/mask_ratio.yaml --plan                 what it will do and cost
  %(prog)s studies/mask_ratio.yaml                        do it
  %(prog)s studies/mask_ratio.yaml --seeds 3              only what is missing is run
  %(prog)s studies/mask_ratio.yaml --set pretrain.epochs=20"""


def main(argv: Sequence[str] | None = None, *, program: str = "mae-ablation") -> int:
    """`mae-ablation COMMAND ...`. Returns the exit status.

    0 all done, 1 a trial has no result, 2 an error of the user's, 130 interrupted.
    """
    top = argparse.ArgumentParser(
        prog=program, description="Ablation studies of masked autoencoders."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a study and write its report")
    report = commands.add_parser("report", help="write a study's report again from the store")
    ui = commands.add_parser("ui", help="browse the results in MLflow")
    add_run(run)
    add_study(report)
    report.set_defaults(command=do_report)
    ui.add_argument("--port", type=port, default=5000)
    ui.set_defaults(command=do_ui)
    return call(top, argv)


def main_run(argv: Sequence[str] | None = None) -> int:
    """`python -m platform.run ...`: the command `run` alone."""
    top = argparse.ArgumentParser(
        prog="python -m platform.run",
        description="Run ablation studies of masked autoencoders: what the store has is not run "
        "again.",
    )
    add_run(top)
    return call(top, argv)


def call(top: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    arguments = top.parse_args(argv)
    try:
        return arguments.command(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoints", file=sys.stderr)
        return INTERRUPTED


def add_study(parser: argparse.ArgumentParser) -> None:
    """The study and what may be changed of it."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY.yaml")
    parser.add_argument("--recipe", help="another recipe than the study's: a name or a file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help="change a field of the recipe; may be given several times",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--store", type=Path, default=Path("store"), help="default: ./store")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: ./reports")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_study(parser)
    parser.add_argument("--plan", action="store_true", help="print trials and cost, run nothing")
    parser.add_argument(
        "--lanes", type=positive, metavar="N", help="trials side by side (default: one per core)"
    )
    parser.add_argument(
        "--gpus", type=share, default=0.0, metavar="G", help="of a GPU for each lane (default: 0)"
    )
    parser.set_defaults(command=do_run)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs")
    return value


def each_study(arguments: argparse.Namespace, command: Callable[..., int], **more: object) -> int:
    """Call `command` for every study of the line, checking all of them first."""
    common = {name: getattr(arguments, name) for name in ("store", "recipe", "changes", "seeds")}
    for study in arguments.studies:
        plan_study(study, **common)
    return sum(command(study, **common, **more) for study in arguments.studies)


def do_run(arguments: argparse.Namespace) -> int:
    if arguments.plan:
        return each_study(arguments, print_plan, lanes=arguments.lanes)
    unfinished = each_study(
        arguments,
        run_study,
        reports=arguments.reports,
        lanes=arguments.lanes,
        gpus=arguments.gpus,
    )
    return 1 if unfinished else 0


def print_plan(study: Path, *, lanes: int | None, **common: object) -> int:
    from mae_ablation.cluster.run import cores

    plan = plan_study(study, **common)
    print(summary(plan, lanes or cores()))
    print(trial_lines(plan))
    return 0


def do_report(arguments: argparse.Namespace) -> int:
    from mae_ablation.report.report import write_report

    require_writable(arguments.reports)

    def write(study: Path, **common: object) -> int:
        plan = plan_study(study, **common)
        files = write_report(plan, arguments.reports / plan.study.experiment)
        print("\n".join(map(str, files)))
        return 0

    return each_study(arguments, write)


def do_ui(arguments: argparse.Namespace) -> int:
    from mae_ablation.tracking.ui import serve

    return serve(Path.cwd(), arguments.port)

"""Command line: parses, calls, prints. The commands themselves are in commands.py.

python -m platform.run STUDY...      run studies (also: python -m mae_ablation run STUDY...)
python -m platform plan STUDY...     what they would do and cost
python -m platform report STUDY...   write their reports again from the store
python -m platform ui                browse the results in MLflow
python -m platform reconstruct       what a model makes of a picture's removed patches
python -m platform export            a model's weights for timm or in the official format
python -m platform masks             a picture of the mask samplings
python -m platform data FOLDER       check a folder of images
python -m platform store ACTION      ls, show, verify, gc, export, import: look after the results
python -m platform compare A B       two reports side by side
python -m platform cluster           cluster files: print one, check one
python -m platform doctor            check this machine
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from mae_ablation.cli_cluster import add_cluster
from mae_ablation.cli_compare import add_compare
from mae_ablation.cli_flags import add_store
from mae_ablation.cli_machine import add_data, add_doctor, add_ui
from mae_ablation.cli_model import add_export, add_masks, add_reconstruct
from mae_ablation.cli_parser import Parser
from mae_ablation.cli_store import add_store_commands
from mae_ablation.cli_study import add_plan, add_report, add_run
from mae_ablation.errors import Emptier, UserError
from mae_ablation.store.checkpoint import Damaged

NO_RESULT, USER_ERROR, INTERRUPTED = 1, 2, 130
EXAMPLES = """examples:
  %(prog)s doctor
  %(prog)s plan studies/mask_ratio.yaml
  %(prog)s run studies/mask_ratio.yaml --seeds 3
  %(prog)s ui
Each command has its own: %(prog)s run --help
"""


def main(argv: Sequence[str] | None = None, *, program: str = "mae-ablation") -> int:
    """`mae-ablation COMMAND ...`. Returns the exit status.

    0 all done, 1 a trial has no result, 2 an error of the user's, 130 interrupted.
    """
    top = Parser(
        prog=program, description="Ablation studies of masked autoencoders.", epilog=EXAMPLES
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands.add_parser("run", help="run studies and write their reports"))
    add_plan(commands.add_parser("plan", help="what studies would do and cost"))
    add_report(commands.add_parser("report", help="write reports again from the store"))
    add_ui(commands.add_parser("ui", help="browse the results in MLflow"))
    add_reconstruct(commands.add_parser("reconstruct", help="a model's reconstruction of images"))
    add_export(commands.add_parser("export", help="weights for timm or in the official format"))
    add_masks(commands.add_parser("masks", help="a picture of the mask samplings"))
    add_data(commands.add_parser("data", help="check a folder of images"))
    add_store_commands(commands.add_parser("store", help="look after the results"), add_store)
    add_compare(commands.add_parser("compare", help="two reports side by side, paired by seed"))
    add_cluster(commands.add_parser("cluster", help="cluster files: print one, check one"))
    add_doctor(commands.add_parser("doctor", help="check this machine"))
    return call(top, argv)


def main_run(argv: Sequence[str] | None = None) -> int:
    """`python -m platform.run ...`: the command `run` alone."""
    top = Parser(
        prog="python -m platform.run",
        description="Run ablation studies of masked autoencoders: what the store has is not run "
        "again.",
    )
    add_run(top)
    return call(top, argv)


def call(top: Parser, argv: Sequence[str] | None) -> int:
    """Parse, run the command, and turn what a user can do about into a line and a status."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a terminal of few characters, not a notebook's
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = top.parse_args(argv)
        status = arguments.command(arguments)
        sys.stdout.flush()
        return status
    except Emptier as error:
        print(error, file=sys.stderr)
        return NO_RESULT
    except (UserError, Damaged) as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoints", file=sys.stderr)
        return INTERRUPTED

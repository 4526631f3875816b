"""Command line: the functions of api.py, their signatures as flags, their docstrings as help.

python -m platform.run STUDY...      run studies (also: mae-ablation run STUDY...)
mae-ablation COMMAND                 any command (in a clone also: python -m platform COMMAND)
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from mae_ablation import __version__, api
from mae_ablation.errors import INTERRUPTED, NO_RESULT, USER_ERROR, Emptier, UserError
from mae_ablation.store.checkpoint import Damaged

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

COMMANDS = {
    "run": api.run,
    "plan": api.show_plan,
    "init": api.init,
    "report": api.report,
    "check": api.check,
    "compare": api.compare,
    "ui": api.ui,
    "reconstruct": api.reconstruct,
    "export": api.export,
    "masks": api.masks,
    "data": {"": api.data, "prepare": "mae_ablation.data.prepare:prepare_images"},
    "store": {
        "ls": "mae_ablation.study.upkeep:list_phases",
        "show": "mae_ablation.study.upkeep:describe_phase",
        "verify": "mae_ablation.study.upkeep:verify",
        "gc": "mae_ablation.run.gc:collect_garbage",
        "export": "mae_ablation.launch.exchange:export_selection",
        "import": "mae_ablation.launch.exchange:import_results",
    },
    "cluster": {
        "template": "mae_ablation.launch.cluster_file:template",
        "check": "mae_ablation.launch.cluster_file:check_cluster_file",
    },
    "components": api.components,
    "schema": api.schema,
    "doctor": api.doctor,
}
GROUPS = {
    "store": "Look after the results.",
    "cluster": "Cluster files: print one, check one.",
}
"""Help of the commands that hold commands."""

EXAMPLES = {
    "mae-ablation": """
  %(prog)s doctor
  %(prog)s plan studies/mask_ratio.yaml
  %(prog)s run studies/mask_ratio.yaml --seeds 3
  the study of that name that ships, from any folder:
  %(prog)s run mask_ratio
  %(prog)s ui
Each command has its own: %(prog)s run --help
""",
    "run": """
  %(prog)s studies/mask_ratio.yaml --plan
  only what is missing is run, with three seeds:
  %(prog)s studies/mask_ratio.yaml --seeds 3
  more seeds for the rows that are not decided, one night:
  %(prog)s studies/mask_ratio.yaml \\
      --until-decided --most 12 --hours 8
  another scale, one field changed:
  %(prog)s studies/paper.yaml \\
      --recipe cifar10 --set pretrain.epochs=20
""",
    "plan": """
  %(prog)s studies/mask_ratio.yaml
  GPU-hours and money:
  %(prog)s studies/paper.yaml --recipe imagenet \\
      --gpus 1 --lanes 8 --price-per-gpu-hour 2
""",
    "init": """
  %(prog)s my_study.yaml
""",
    "report": """
  %(prog)s studies/*.yaml --seeds 3
  from the tracking server, without a store:
  %(prog)s studies/target.yaml --from mlflow
""",
    "check": """
  a step of continuous integration:
  %(prog)s studies/mask_ratio.yaml \\
      --fail-on contradicted,inconclusive
""",
    "compare": """
  two reports in ./reports:
  %(prog)s mask_ratio mask_ratio-cifar10
  two commits, as a page:
  %(prog)s old/reports/target reports/target --out both.md
""",
    "ui": """
  %(prog)s --port 5001
""",
    "reconstruct": """
  a pre-training of the store, by its identity:
  %(prog)s --checkpoint 3f2a9c \\
      --image cat.jpg dog.jpg
  an official checkpoint:
  %(prog)s --image cat.jpg \\
      --checkpoint mae_visualize_vit_base.pth
""",
    "export": """
  %(prog)s --checkpoint 3f2a9c --out vit.safetensors
  %(prog)s --checkpoint 3f2a9c \\
      --out mae.pth --format official
""",
    "masks": """
  %(prog)s --out masks.png --seed 1
""",
    "components": """
  with those of a file or a module of yours:
  %(prog)s --plugin my_lab/hog.py
""",
    "schema": """
  %(prog)s study > study.schema.json
  with the settings of components of yours:
  %(prog)s recipe --plugin my_lab/hog.py
""",
    "data": """
  %(prog)s data/imagenet --classes 1000
  once, for every study after it:
  %(prog)s prepare data/imagenet \\
      s3://bucket/imagenet-256 --side 256
""",
    "store": """
  %(prog)s show 3f2a9c
  %(prog)s verify --store s3://bucket/store
  what no file in studies/ needs; --yes deletes it:
  %(prog)s gc
  results for somebody else, and into another store:
  %(prog)s export results.zip studies/mask_ratio.yaml
  %(prog)s import results.zip
""",
    "cluster": """
  %(prog)s template aws > cluster.yaml
  %(prog)s check
""",
    "doctor": """
  start Ray, too, and stop it again:
  %(prog)s --start
""",
}
"""End of each command's help."""


def main(argv: Sequence[str] | None = None, *, program: str = "mae-ablation") -> int:
    """Run `mae-ablation COMMAND ...`; returns the exit status.

    0 all done, 1 a trial has no result, 2 an error of the user's, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return call(make_top(program, words), words)


def main_run(argv: Sequence[str] | None = None) -> int:
    """Run `python -m platform.run ...`: the command `run` alone."""
    program = "python -m platform.run"
    words = list(sys.argv[1:] if argv is None else argv)
    return call(make_app(program, program, "run", default_command=api.run), words)


def make_top(program: str, words: Sequence[str] = ()) -> App:
    """Make the command of all commands.

    Args:
        words: that were typed; a group's functions are imported if it is among them, else later.
    """
    about = "Ablation studies of masked autoencoders."
    top = make_app(program, program, "mae-ablation", help=about)
    # a group's functions by name: --help and the other commands do without their imports
    # a room's functions are imported once one of them is typed: help stays quick
    for name, command in COMMANDS.items():
        if isinstance(command, dict):
            own = {"default_command": command[""]} if "" in command else {"help": GROUPS[name]}
            group = make_app(name, f"{program} {name}", **own)
            for action, function in command.items():
                if action:
                    found = resolve_name(function) if name in words else function
                    group.command(found, name=action)
            top.command(group)
        else:
            top.command(make_app(name, f"{program} {name}", default_command=command))
    if " " not in program:  # a shell completes what is one word
        top.register_install_completion_command()
    return top


def make_app(name: str, typed: str, command: str | None = None, **options: Any) -> App:
    """Make a command, whose help ends with its examples.

    Args:
        typed: what a user types to get there.
        command: its key in EXAMPLES, where it is not `name`.
    """
    examples = EXAMPLES[name if command is None else command] % {"prog": typed}
    return App(
        name=name,
        version=__version__,
        help_epilogue=f"examples:{examples}",
        help_format="plaintext",
        help_formatter=print_panel,
        default_parameter=Parameter(negative=(), show_default=False),
        suppress_keyboard_interrupt=False,
        **options,
    )


def print_panel(console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
    """Print a list of flags or commands in two columns, as wide as the terminal."""
    from rich.padding import Padding
    from rich.table import Table

    if not panel.entries:
        return
    # flags take two fifths of the width at most; long help is folded beside them
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(max_width=2 * console.width // 5)
    grid.add_column()
    for entry in panel.entries:
        # choices stand where the value is asked for, not in a line of their own
        labels = ", ".join(entry.display_labels_with_metavar)
        grid.add_row(labels.replace("CHOICE", "|".join(entry.choices or ())), entry.description)
    console.print(f"{panel.title}:", Padding(grid, (0, 0, 1, 2), expand=False))


def call(app: App, words: Sequence[str]) -> int:
    """Parse, run the command, and turn what a user can do about into a line and a status."""
    # a terminal may lack characters; a notebook's streams cannot be told
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")

    # a bug passes through, with its traceback
    try:
        # cyclopts would print its own box and exit; errors here are one line
        how = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}
        status = show_result(app(words, **how))
        sys.stdout.flush()
        return status
    except CycloptsError as error:
        print(refusal_line(app.name[0], error), file=sys.stderr)
        return USER_ERROR
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


def show_result(result: Any) -> int:
    """Print what a command returns, and return its exit status.

    A command that has printed returns its status. Others return a text or lines, and some a pair:
    lines, and what is lacking, lines for stderr or their number.
    """
    if result is None or isinstance(result, int):
        return result or 0
    # what was made, and then what is lacking, for whoever reads a pipe
    lines, lacking = result if isinstance(result, tuple) else (result, ())
    for line in lines.splitlines() if isinstance(lines, str) else lines:
        print(line)
    for line in lacking if not isinstance(lacking, int) else ():
        print(line, file=sys.stderr)
    return NO_RESULT if lacking else 0


def refusal_line(program: str, error: CycloptsError) -> str:
    """Say in a line what is wrong with a command, and where its flags are explained."""
    error.verbose = False
    text = str(error)
    if isinstance(error, MissingArgumentError) and not (error.keyword or error.argument.tokens):
        # cyclopts calls an argument by a flag that nobody has typed
        name, positional = error.argument.name, error.argument.field_info.is_positional
        text = f"{name.lstrip('-').upper() if positional else name} is missing."
    where = " ".join([program, *(error.command_chain or ())])
    return f"{where}: {text} ({where} --help says more)"

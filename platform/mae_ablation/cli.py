"""Command line: parses, calls, prints. The commands themselves are in commands.py.

python -m platform.run STUDY...      run studies (also: python -m mae_ablation run STUDY...)
python -m platform report STUDY...   write their reports again from the store
python -m platform ui                browse the results in MLflow
python -m platform reconstruct       what a model makes of a picture's removed patches
python -m platform export            a model's weights for timm or in the official format
python -m platform masks             a picture of the mask samplings
python -m platform data FOLDER       check a folder of images
python -m platform store ACTION      ls, show, verify, gc: look after the results
python -m platform cluster           cluster files: print one, check one
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mae_ablation.cli_cluster import add_cluster
from mae_ablation.cli_store import add_store_commands
from mae_ablation.commands import (
    introduction,
    plan_studies,
    require_writable,
    run_studies,
    source,
)
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.recipe_file import PHASES
from mae_ablation.study.suite import load_all, suites_of
from mae_ablation.summary import settings_lines, trial_lines

USER_ERROR, INTERRUPTED = 2, 130
SAMPLINGS = ("random", "block", "grid")
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
    report.add_argument(
        "--from",
        choices=("store", "mlflow"),
        default="store",
        dest="source",
        help="mlflow: from the tracking server (MLFLOW_TRACKING_URI) or ./mlflow.db, without a "
        "store",
    )
    report.set_defaults(command=do_report)
    ui.add_argument("--port", type=port, default=5000)
    ui.set_defaults(command=do_ui)
    add_reconstruct(commands.add_parser("reconstruct", help="a model's reconstruction of images"))
    add_export(commands.add_parser("export", help="weights for timm or in the official format"))
    add_masks(commands.add_parser("masks", help="a picture of the mask samplings"))
    add_data(commands.add_parser("data", help="check a folder of images"))
    add_store_commands(commands.add_parser("store", help="look after the results"), add_store)
    add_cluster(commands.add_parser("cluster", help="cluster files: print one, check one"))
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
    except (UserError, Damaged) as error:
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
    parser.add_argument(
        "--phases",
        type=phases,
        default=(),
        metavar="A,B",
        help=f"instead of the study's, out of {', '.join(PHASES)}",
    )
    add_store(parser)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: ./reports")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_study(parser)
    parser.add_argument("--plan", action="store_true", help="print trials and cost, run nothing")
    parser.add_argument(
        "--lanes",
        type=lanes,
        metavar="N|auto",
        help="trials side by side (default: auto, as many as there is room for)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="K",
        help="of each lane: they train one trial together (default: 1)",
    )
    parser.add_argument(
        "--gpus",
        type=share,
        default=0.0,
        metavar="G",
        help="of a GPU, for each worker (default: 0)",
    )
    parser.add_argument(
        "--batch-per-worker",
        type=positive,
        metavar="N",
        help="images a worker takes at a time, at most (default: its share of the batch)",
    )
    parser.add_argument("--accelerator", metavar="TYPE", help="of GPU, as Ray names it: A10G")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--local", action="store_true", help="run on this machine")
    place.add_argument("--address", metavar="A", help="run on the Ray cluster at this address")
    place.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="run on the cluster that `ray up FILE` has started (default: cluster.yaml, if its "
        "cluster is up)",
    )
    parser.set_defaults(command=do_run)


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", default="store", help="folder or s3://...; default: ./store")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def lanes(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a GPU and no number of them")
    return value


def phases(text: str) -> tuple[str, ...]:
    names = text.split(",")
    for name in names:
        if name not in PHASES:
            raise argparse.ArgumentTypeError(unknown("phase", name, PHASES))
    return tuple(names)


def heads(text: str) -> tuple[int, int]:
    encoder, _, decoder = text.partition(",")
    return positive(encoder), positive(decoder)


def common(arguments: argparse.Namespace) -> dict[str, object]:
    names = ("studies", "store", "recipe", "changes", "seeds", "phases")
    return {name: getattr(arguments, name) for name in names}


def lane_options(arguments: argparse.Namespace) -> dict[str, object]:
    names = ("lanes", "gpus", "workers", "batch_per_worker", "accelerator")
    return {name: getattr(arguments, name) for name in names}


def do_run(arguments: argparse.Namespace) -> int:
    from mae_ablation.cluster.place import Cluster, Local, choose

    if arguments.plan:
        return print_plan(arguments)
    asked = common(arguments)
    wanted = {name: asked[name] for name in ("recipe", "changes", "seeds", "phases")}
    load_all(arguments.studies, **wanted)  # its errors are said before a place is looked for
    place = choose(arguments.address, arguments.cluster, arguments.local)
    print(place.line, flush=True)
    options = {**lane_options(arguments), "reports": arguments.reports}
    if isinstance(place, Cluster):
        from mae_ablation.submit import submit_studies

        there = None if arguments.store == "store" else arguments.store
        return submit_studies(cluster=place, **{**asked, **options, "store": there})
    address = "local" if isinstance(place, Local) else place.address
    unfinished = run_studies(**asked, **options, address=address)
    return 1 if unfinished else 0


def print_plan(arguments: argparse.Namespace) -> int:
    from mae_ablation.cluster.session import cores

    plans = plan_studies(**common(arguments))
    print(introduction(arguments.studies, plans, arguments.lanes or cores()))
    for plan in plans:
        if len(plans) > 1:
            print(f"\n{plan.study.name}")
        print(settings_lines(plan.study.baseline, plan.study.phases))
        print(trial_lines(plan))
    return 0


def do_report(arguments: argparse.Namespace) -> int:
    from mae_ablation.report.index import write_overviews
    from mae_ablation.report.report import write_report

    require_writable(arguments.reports)
    plans, readings = plan_studies(**common(arguments)), {}
    for plan in plans:
        folder, where = arguments.reports / plan.study.experiment, source(arguments.source, plan)
        files = write_report(plan, folder, **where)
        readings[plan.study.experiment] = where.get("readings")
        print("\n".join(map(str, files)))
    suites = suites_of(arguments.studies)
    pages = write_overviews(suites, plans, arguments.reports, readings=readings)
    print("\n".join(map(str, pages)))
    return 0


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="FILE_OR_TRIAL",
        help="a checkpoint, official ones too, or the identity of a pre-training in the store",
    )
    parser.add_argument(
        "--heads",
        type=heads,
        metavar="E,D",
        help="attention heads of encoder and decoder, where a file's shape does not say",
    )
    add_store(parser)


def add_reconstruct(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--image", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--mask-ratio", type=float, metavar="R", help="default: as trained")
    parser.add_argument("--sampling", choices=SAMPLINGS, help="default: as trained")
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    parser.add_argument(
        "--target",
        choices=("pixel", "pixel_norm"),
        help="of a checkpoint from elsewhere, which does not say (default: pixel)",
    )
    parser.add_argument("--out", type=Path, default=Path("reconstruction.png"))
    parser.set_defaults(command=do_reconstruct)


def do_reconstruct(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import reconstruct

    print(
        reconstruct(
            arguments.checkpoint,
            arguments.image,
            store=arguments.store,
            out=arguments.out,
            mask_ratio=arguments.mask_ratio,
            sampling=arguments.sampling,
            seed=arguments.seed,
            target=arguments.target,
            heads=arguments.heads,
        )
    )
    return 0


def add_export(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--format", choices=("timm", "official"), default="timm", help="default: timm"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.set_defaults(command=do_export)


def do_export(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import export

    print(
        export(
            arguments.checkpoint,
            store=arguments.store,
            out=arguments.out,
            format=arguments.format,
            heads=arguments.heads,
        )
    )
    return 0


def add_masks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("masks.png"))
    parser.set_defaults(command=do_masks)


def do_masks(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import masks

    print(masks(out=arguments.out, seed=arguments.seed))
    return 0


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds train/CLASS/ and val/CLASS/")
    parser.add_argument("--classes", type=positive, metavar="N", help="how many there should be")
    parser.add_argument("--workers", type=positive, default=2, metavar="N")
    parser.set_defaults(command=do_data)


def do_data(arguments: argparse.Namespace) -> int:
    from mae_ablation.data.folder import check_layout, unreadable

    check_layout(arguments.folder, arguments.classes, str(arguments.folder))
    broken = unreadable(arguments.folder, arguments.workers)
    for name in broken:
        print(f"{arguments.folder / name}: cannot be read as an image")
    print(f"{len(broken)} unreadable images" if broken else "every image can be read")
    return USER_ERROR if broken else 0


def do_ui(arguments: argparse.Namespace) -> int:
    from mae_ablation.tracking.ui import serve

    return serve(Path.cwd(), arguments.port)

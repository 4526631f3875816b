"""Command line of studies: run, plan, report."""

import argparse
import sys

from mae_ablation.api import (
    introduction,
    plan_studies,
    require_writable,
    run_studies,
)
from mae_ablation.cli_flags import (
    BUDGET,
    LANES,
    STUDY,
    add_budget,
    add_lanes,
    add_place,
    add_price,
    add_study,
    named,
)
from mae_ablation.errors import UserError
from mae_ablation.report.outcome import report_studies
from mae_ablation.report.summary import budget_lines, counted, settings_lines, trial_lines
from mae_ablation.study.estimate import estimate
from mae_ablation.study.speed import machine_of
from mae_ablation.study.suite import load_all, suites_of

USAGE = "%(prog)s STUDY.yaml... [flags]"
RUN_EXAMPLES = """examples:
  %(prog)s studies/mask_ratio.yaml
  only what is missing is run, with three seeds:
  %(prog)s studies/mask_ratio.yaml --seeds 3
  more seeds for the rows that are not decided, one night:
  %(prog)s studies/mask_ratio.yaml \\
      --until-decided --most 12 --hours 8
  another scale, one field changed:
  %(prog)s studies/paper.yaml \\
      --recipe cifar10 --set pretrain.epochs=20
  what it will do and cost:
  %(prog)s studies/mask_ratio.yaml --plan
"""
PLAN_EXAMPLES = """examples:
  %(prog)s studies/mask_ratio.yaml
  time training steps first, for a better estimate:
  GPU-hours and money:
  %(prog)s studies/paper.yaml \\
      --recipe imagenet --gpus 1 --lanes 8 \\
      --price-per-gpu-hour 2
"""
REPORT_EXAMPLES = """examples:
  %(prog)s studies/mask_ratio.yaml
  %(prog)s studies/*.yaml --seeds 3
  from the tracking server, without a store:
  %(prog)s studies/target.yaml \\
      --from mlflow
"""


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.usage, parser.epilog = USAGE, RUN_EXAMPLES
    _add_everything(parser)
    parser.add_argument("--plan", action="store_true", help="print trials and cost, run nothing")
    parser.set_defaults(command=do_run)


def add_plan(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trials and cost of studies; nothing is run."
    parser.usage, parser.epilog = USAGE, PLAN_EXAMPLES
    _add_everything(parser)
    parser.set_defaults(command=do_plan)


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.usage, parser.epilog = USAGE, REPORT_EXAMPLES
    add_study(parser)
    parser.add_argument(
        "--from",
        choices=("store", "mlflow"),
        default="store",
        dest="source",
        help="mlflow: from the tracking server (MLFLOW_TRACKING_URI) or ./mlflow.db, without a "
        "store",
    )
    parser.set_defaults(command=do_report)


def _add_everything(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_lanes(parser)
    add_place(parser)
    add_budget(parser)
    add_price(parser)


def do_run(arguments: argparse.Namespace) -> int:
    from mae_ablation.launch.place import Cluster, Local, choose

    if arguments.plan:
        return do_plan(arguments)
    require_gpus(arguments)
    asked = named(arguments, STUDY)
    wanted = {name: value for name, value in asked.items() if name not in ("studies", "store")}
    load_all(arguments.studies, **wanted)  # its errors are said before a place is looked for
    place = choose(arguments.address, arguments.cluster, arguments.local)
    print(place.line, flush=True)
    options = {**named(arguments, (*LANES, *BUDGET, "price")), "reports": arguments.reports}
    if isinstance(place, Cluster):
        from mae_ablation.launch.submit import submit_studies

        there = None if arguments.store == "store" else arguments.store
        return submit_studies(cluster=place, **{**asked, **options, "store": there})
    address = "local" if isinstance(place, Local) else place.address
    unfinished = run_studies(**asked, **options, address=address)
    return 1 if unfinished else 0


def do_plan(arguments: argparse.Namespace) -> int:
    """Without a look for a cluster that is up: only what the flags say."""
    require_gpus(arguments)
    elsewhere = bool(arguments.cluster or arguments.address not in (None, "local"))
    plans = plan_studies(**named(arguments, STUDY))
    shape = named(arguments, ("lanes", "workers", "gpus"))
    machine = machine_of(**shape, local=not elsewhere)
    cost = estimate(plans, machine=machine)
    print(introduction(arguments.studies, plans, cost=cost, price=arguments.price))
    for line in budget_lines(**named(arguments, BUDGET)):
        print(line)
    if elsewhere and not arguments.lanes:
        print("note: the cluster decides how many lanes there are; --lanes N is priced as such")
    for plan in plans:
        if len(plans) > 1:
            print(f"\n{plan.study.name}")
        print(settings_lines(plan.study.baseline, plan.study.phases))
        first = plan.study.declared.looks[0]
        print(trial_lines(plan.up_to(first)))
        if plan.study.grows:
            more = len(plan.trials) - len(plan.up_to(first).trials)
            print(f"  and {counted(more, 'trial')} at most of later looks, for undecided rows")
    return 0


def require_gpus(arguments: argparse.Namespace) -> None:
    """Raises UserError for a price or a budget of GPUs where none is asked for."""
    for flag, value in (
        ("--price-per-gpu-hour", arguments.price),
        ("--gpu-hours", arguments.gpu_hours),
    ):
        if value is not None and not arguments.gpus:
            raise UserError("no GPU is asked for: --gpus 1", flag)


def do_report(arguments: argparse.Namespace) -> int:
    require_writable(arguments.reports)
    plans, suites = plan_studies(**named(arguments, STUDY)), suites_of(arguments.studies)
    files, lacking = report_studies(plans, suites, arguments.reports, source=arguments.source)
    for file in files:
        print(file)
    for line in lacking:
        print(line, file=sys.stderr)
    return 1 if lacking else 0

"""The commands, each one typed function: the command line and a notebook call the same.

    from mae_ablation import api

    api.run(api.Request("studies/mask_ratio.yaml", seeds=3))

A command returns its lines, or prints them as they come and returns its exit status: 0 all done,
1 something has no result, 2 an error in what was asked, 130 left by Ctrl-C. `plan_studies` returns
the plans themselves. The commands of `store` and `cluster` stand in their rooms (cli.py names
them). Heavy imports stand in the function that needs them, after what can be refused.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mae_ablation.errors import USER_ERROR, UserError
from mae_ablation.study.flags import (
    CheckpointPlace,
    Count,
    DataPlace,
    File,
    Flat,
    Folder,
    Heads,
    MaskSeed,
    Plugins,
    Port,
    Ratio,
    SamplerName,
    StorePlace,
    TargetName,
)
from mae_ablation.study.request import LOCAL_STORE, Request, Selection

if TYPE_CHECKING:
    from mae_ablation.study.plan import Plan


def plan_studies(studies: Sequence[Path | str], **asked: object) -> "list[Plan]":
    """Return the plans of some studies. Starts and writes nothing.

    Args:
        studies: YAML files, of studies or of suites of them.
        asked: further fields of a Selection, such as `recipe`, `seeds` or `store`.

    Raises:
        UserError: with file and line of what cannot be.
    """
    from mae_ablation.run.session import Session

    return Session.load(Selection(tuple(studies), **asked)).plans


def plan_study(study: Path | str, **asked: object) -> "Plan":
    """Return the plan of a single study; see `plan_studies`."""
    return plan_studies([study], **asked)[0]


def run(request: Annotated[Request, Flat], *, plan: bool = False) -> int | list[str]:
    """Run studies and write their reports.

    What the store has is not run again.

    Args:
        plan: print trials and cost, run nothing
    """
    if plan:
        return show_plan(request)

    from mae_ablation.launch.place import Cluster, choose_place
    from mae_ablation.run.session import Session

    # errors of the study are said before a place is looked for
    session = Session.load(request)
    # the place is said first: what follows may take minutes to start
    place = choose_place(request)
    print(place.line, flush=True)
    if isinstance(place, Cluster):
        from mae_ablation.launch.submit import submit

        return submit(session, place)
    from mae_ablation.launch.here import run_here

    return 1 if run_here(session, place.address) else 0


def show_plan(request: Annotated[Request, Flat]) -> list[str]:
    """Print trials and cost of studies; nothing is run, and no cluster is looked for."""
    from mae_ablation.report.summary import plan_lines
    from mae_ablation.run.session import Session
    from mae_ablation.study.estimate import estimate

    elsewhere = bool(request.cluster or request.address not in (None, "local"))
    session = Session.load(request)
    cost = estimate(session.plans, machine=request.machine(local=not elsewhere))
    return plan_lines(session, cost, elsewhere=elsewhere)


def report(
    selection: Annotated[Selection, Flat],
    *,
    source: Annotated[Literal["store", "mlflow"], Parameter(name="--from")] = "store",
) -> tuple[list[Path], list[str]]:
    """Write reports again from the store.

    Exit status 1: results are missing.

    Args:
        source: mlflow: from the tracking server (MLFLOW_TRACKING_URI) or ./mlflow.db, without a
            store
    """
    from mae_ablation.report.outcome import report_studies
    from mae_ablation.run.session import Session
    from mae_ablation.study.places import require_writable

    require_writable(selection.reports)
    return report_studies(Session.load(selection), source)


def check(
    selection: Annotated[Selection, Flat], *, fail_on: str = "contradicted"
) -> tuple[list[str], list[str]]:
    """Fail where a study's results contradict what is published.

    Nothing is run or written. Exit status 1: a verdict that is not accepted.

    Args:
        fail_on: verdicts that are not accepted, with commas between them: contradicted,
            no-difference, undecided-so-far, inconclusive, incomplete, not-comparable, reproduced
    """
    from mae_ablation.report.gate import check_verdicts
    from mae_ablation.run.session import Session

    return check_verdicts(Session.load(selection), fail_on)


def init(file: Annotated[File, Parameter(metavar="FILE")] = Path("study.yaml")) -> str:
    """Write a small study to start from.

    Args:
        file: the study; nothing that is there is written over (default: study.yaml)

    Raises:
        UserError: there is such a file, or it cannot be written.
    """
    from mae_ablation.study.names import require_name
    from mae_ablation.study.places import written
    from mae_ablation.study.shipped import new_study

    require_name(file.stem, "the study's file", str(file))
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"a study is a YAML file: call it {file.name}.yaml", str(file))
    if file.exists():
        raise UserError("is there already: give another name", str(file))
    with written(file) as out:
        out.write(new_study(file).encode())
    return f"{file}: change it, then: mae-ablation plan {shlex.quote(str(file))}"


def compare(a: str, b: str, *, reports: Folder = Path("reports"), out: File | None = None) -> int:
    """Print two reports side by side, paired by seed.

    Args:
        a: folder of a report, or its name in the folder of reports
        b: folder of the other one, or its name
        reports: the folder of reports (default: ./reports)
        out: write it into this file, too; it is Markdown
    """
    from mae_ablation.report.saved import open_report
    from mae_ablation.study.places import require_place, written

    # what can be refused, before pandas is imported
    if out:
        require_place(out)
    one, two = (open_report(name, reports) for name in (a, b))

    from mae_ablation.report.compare import compare_reports, format_comparison

    # the comparison, on the terminal and as a file
    found = compare_reports(one, two)
    text = format_comparison(found)
    print(text, end="")
    if not any(len(part.table) > 1 for part in found.sections):
        message = "no level of one is in the other: there is nothing to compare"
        raise UserError(message, f"{one.folder} and {two.folder}")
    if out:
        with written(out) as file:
            file.write(text.encode())
        print(out)
    return 0


def ui(*, port: Port = 5000) -> int:
    """Browse the results in MLflow, until Ctrl-C.

    Args:
        port: of this machine, open to nobody else (default: 5000)
    """
    from mae_ablation.tracking.ui import serve

    return serve(Path.cwd(), port)


def reconstruct(
    *,
    checkpoint: CheckpointPlace,
    image: Annotated[tuple[File, ...], Parameter(consume_multiple=True)],
    mask_ratio: Ratio | None = None,
    sampling: SamplerName | None = None,
    seed: MaskSeed = 0,
    target: TargetName | None = None,
    heads: Heads | None = None,
    out: File = Path("reconstruction.png"),
    store: StorePlace = LOCAL_STORE,
    plugins: Plugins = (),
) -> str:
    """Draw what a model makes of images: the four panels of the paper's Figure 2.

    Args:
        image: files of images
        mask_ratio: share of patches to remove (default: as in training)
        sampling: how the removed patches are chosen (default: as in training)
        target: prediction target of a checkpoint that does not record it (default: pixel)
        out: the picture (default: reconstruction.png)
    """
    from mae_ablation.registry import load_plugins
    from mae_ablation.store.folder import Store
    from mae_ablation.study.places import find_checkpoint, require_file, require_place

    # what can be refused, before torch is imported
    load_plugins(plugins)
    opened = Store(store)
    require_place(out)
    find_checkpoint(checkpoint, opened)
    for path in image:
        require_file(path, "the path of an image")

    from mae_ablation.report.drawing import draw_panels
    from mae_ablation.train.inspect import draw_reconstructions, open_model, read_image

    # a row of four panels for each image
    model = open_model(checkpoint, opened, target, heads=heads)
    pixels = [read_image(path, model) for path in image]
    panels, caption = draw_reconstructions(model, pixels, mask_ratio, sampling, seed)
    draw_panels(panels, [path.name for path in image], caption, out)
    return "; ".join([f"{out}: {caption}", *model.notes])


def export(
    *,
    checkpoint: CheckpointPlace,
    out: File,
    format: Literal["timm", "official"] = "timm",
    heads: Heads | None = None,
    store: StorePlace = LOCAL_STORE,
    plugins: Plugins = (),
) -> str:
    """Write a model's weights: the encoder for timm, or all of it in the official format.

    Args:
        out: its suffix decides: .safetensors; .pth, .pt or .bin for torch's own format
        format: timm: the encoder; official: with the decoder (default: timm)
    """
    from mae_ablation.registry import load_plugins
    from mae_ablation.store.folder import Store
    from mae_ablation.study.places import find_checkpoint, require_place, require_suffix

    # what can be refused, before torch is imported
    load_plugins(plugins)
    opened = Store(store)
    require_suffix(out)
    require_place(out)
    find_checkpoint(checkpoint, opened)

    from mae_ablation.mae.checkpoints import export_official, export_timm
    from mae_ablation.train.inspect import open_model

    # timm knows encoders only, so the decoder is built for the official format alone
    official = format == "official"
    found = open_model(checkpoint, opened, None, heads=heads, decoder=official)
    (export_official if official else export_timm)(found.model, out)
    kind = "safetensors" if out.suffix.lower() == ".safetensors" else "torch"
    return "; ".join([f"{out}: {format} format, a {kind} file", *found.notes])


def masks(*, seed: MaskSeed = 0, out: File = Path("masks.png")) -> str:
    """Draw the mask samplings of the paper's Figure 6 on a bundled image.

    Args:
        out: the picture (default: masks.png)
    """
    from mae_ablation.study.places import require_place

    require_place(out)

    from mae_ablation.report.drawing import draw_panels
    from mae_ablation.train.inspect import sampling_pictures

    pictures = {title: mask[None] for title, mask in sampling_pictures(seed).items()}
    draw_panels(pictures, [""], "", out)
    return f"{out}: random, block-wise and grid sampling"


def components(*, plugins: Plugins = ()) -> list[str]:
    """List what a study can name: targets, samplers, data sets and the like, with settings."""
    from mae_ablation.registry import describe_components, load_plugins

    load_plugins(plugins)
    return list(describe_components())


def schema(kind: Literal["study", "recipe"], /, *, plugins: Plugins = ()) -> str:
    """Print the JSON Schema of study or recipe files, for editors.

    Args:
        kind: which files
    """
    from mae_ablation.registry import load_plugins

    load_plugins(plugins)

    from mae_ablation.study.schema import recipe_schema, study_schema

    return json.dumps(study_schema() if kind == "study" else recipe_schema(), indent=1)


def data(folder: DataPlace, *, classes: Count | None = None, workers: Count = 2) -> int:
    """Check a folder of images: its layout, and that every image can be read.

    Args:
        folder: holds train/CLASS/ and val/CLASS/, or what `data prepare` made (then also s3://...)
        classes: how many classes there should be
        workers: processes that read images (default: 2)
    """
    from mae_ablation.data.shards import list_images

    found = list_images(folder, classes)

    from mae_ablation.data.examine import describe_folder, examine_images

    # broken images first: they are what has to be done
    seen = list(examine_images(folder, workers))
    broken = [each for each in seen if each.reason]
    for each in broken:
        print(f"{folder}/{each.name}: cannot be read as an image: {each.reason}")
    for line in describe_folder(found, seen):
        print(line)
    return USER_ERROR if broken else 0


def doctor(*, store: StorePlace = LOCAL_STORE, start: bool = False, gpu: bool = False) -> int:
    """Check this machine.

    Exit status 1: something FAILs.

    Args:
        start: start Ray and stop it again
        gpu: train on the GPU for a minute: its loss, and every phase in every precision
    """
    from mae_ablation.doctor import FAIL, examine_machine

    failed = False
    for finding in examine_machine(store, start=start, gpu=gpu):
        print(finding, flush=True)
        failed |= finding.state == FAIL
    return int(failed)

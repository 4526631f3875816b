"""Check in ten minutes what only a GPU can show: python tests/gpu_smoke.py

Every point is a line: ok, FAIL or skipped, and what was found. The page is written to
reports/gpu.md, with the same as JSON beside it. Without CUDA it says so, and checks nothing.

    python tests/gpu_smoke.py --no-ray             leave out what starts Ray
    python tests/gpu_smoke.py --only loss,sync     some points
    python tests/gpu_smoke.py --rehearse           try the script itself on a CPU; its numbers
                                                   mean nothing
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))
os.environ["PYTHONPATH"] = str(ROOT / "platform")  # for decoders and for Ray's processes

import torch  # noqa: E402 (the package of this checkout comes first)

from mae_ablation.data.augment import View, normalise  # noqa: E402
from mae_ablation.data.dataset import load_dataset  # noqa: E402
from mae_ablation.data.feed import Feed  # noqa: E402
from mae_ablation.data.transfer import send  # noqa: E402
from mae_ablation.recipe.cost import pretrain_flops  # noqa: E402
from mae_ablation.store.commit import code_commit  # noqa: E402
from mae_ablation.store.folder import PhaseFolder  # noqa: E402
from mae_ablation.train import trial as trials  # noqa: E402
from mae_ablation.train.device import ceiling_flops_per_s, free_gpu_memory  # noqa: E402
from mae_ablation.train.gpu_check import (  # noqa: E402
    FIRST_POINTS,
    Bench,
    Skipped,
    change,
)
from mae_ablation.train.models import build_model  # noqa: E402
from mae_ablation.train.optim import decay_groups, generator  # noqa: E402
from mae_ablation.train.precision import NumberFormat  # noqa: E402
from mae_ablation.train.pretrain import pretrain  # noqa: E402
from mae_ablation.train.run import Stopped  # noqa: E402

RATED = {  # recipe: images of a step
    "laptop": 64,
    "cifar10": 1024,
    "imagenet100_224": 256,
    "imagenet_vitb": 128,
}


class Point(NamedTuple):
    """One check and what it found."""

    name: str
    state: str
    """ok, FAIL or skipped"""
    found: str
    seconds: float


# one process --------------------------------------------------------------------------------------


def sync(bench: Bench) -> str:
    """Ten steps in which nothing may wait for the GPU."""
    recipe = change(bench.recipe(), "pretrain", mask_sampling="block")
    data, n = load_dataset(recipe.data), 50
    model = build_model(recipe, data.channels, 0).to(bench.device)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=1e-4, fused=True)
    feed, rng = (
        Feed(data.train, View(augmentation=recipe.augmentation), bench.device),
        generator(0, "mask"),
    )
    batches = feed.batches(torch.arange(12 * n).split(n), generator(0, "augment"))

    def step() -> None:
        pixels, _ = next(batches)
        shuffle = recipe.sampler.shuffle(n, model.grid, recipe.kept_patches, rng)
        images = normalise(pixels, data.mean, data.std)
        model(images, send(shuffle, bench.device), recipe.kept_patches).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # constants are made, and libraries loaded, in the first one
    step()
    if bench.on_gpu:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            step()
    finally:
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    return "ten steps with block masks and random crops"


def resume(bench: Bench) -> str:
    """Stopped in mid-epoch and gone on with, here and on a CPU."""
    recipe = bench.recipe()
    whole = pretrain(recipe, 0, bench.run())["train_loss"]

    def stopped() -> PhaseFolder:
        run, asked = bench.run(), iter(range(100))
        try:
            pretrain(recipe, 0, dataclasses.replace(run, stop=lambda: next(asked) == 3))
        except Stopped:
            return run.folder
        raise AssertionError("the training did not stop")

    found = {}
    for device in (bench.device, "cpu"):
        run = dataclasses.replace(bench.run(), folder=stopped(), device=device)
        found[device] = pretrain(recipe, 0, run)["train_loss"]
        assert abs(found[device] / whole - 1) < 1e-2, f"{found[device]} on {device}, not {whole}"
    bits = "bit for bit" if found[bench.device] == whole else "not bit for bit"
    return f"loss {whole:.6f}, gone on with here {found[bench.device]:.6f} ({bits}), " + (
        f"on the CPU {found['cpu']:.6f}"
    )


def compiled(bench: Bench) -> str:
    """Three ratios and three depths compiled one after another in one process."""
    bench.need_gpu()
    graphs = {}
    for ratio, depth in product((0.5, 0.75, 0.9), (1, 2, 3)):
        recipe = change(bench.recipe(), "model", decoder_depth=depth)
        recipe = change(recipe, "pretrain", mask_ratio=ratio, compile=True)
        result = pretrain(recipe, 0, bench.run())
        assert result["compiled"], f"ratio {ratio}, depth {depth} ran uncompiled"
        graphs[ratio, depth] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert set(graphs.values()) == {1}, graphs
    return "nine shapes, one graph each"


def memory(bench: Bench) -> str:
    """An estimate that is far too high for the memory: half the micro-batch until it fits."""
    bench.need_gpu()
    recipe = change(bench.recipe(), "model", encoder_width=384, encoder_depth=12)
    recipe = change(recipe, "pretrain", batch_size=512, epochs=1, warmup_epochs=0)
    free_gpu_memory(bench.device)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
    phase, trial = SimpleNamespace(kind="pretrain", recipe=recipe), SimpleNamespace(seed=0)
    trial.source = "pretrain"
    try:
        run = bench.run(memory_bytes=1000 * 2**30)
        result = trials.train_within_memory(trial, phase, run, None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result["out_of_memory"], "1 GiB was enough: nothing was tried"
    return "1 GiB: micro-batch {micro_batch} x {accumulated} after {out_of_memory} times".format(
        **result
    )


ASSERTION = """\
import torch
from mae_ablation.train.hardware import is_hardware_error
try:
    torch.zeros(3, device="cuda")[torch.tensor([5], device="cuda")].sum().item()
except RuntimeError as error:
    print("the GPU's" if is_hardware_error(error) else "the trial's own", end=", ")
try:
    torch.cuda.synchronize()
    print("its process can go on")
except RuntimeError:
    print("its process cannot go on")
"""


def assertion(bench: Bench) -> str:
    """A failed assertion of a kernel is the trial's own error, and the end of its process."""
    bench.need_gpu()
    words = [sys.executable, "-c", ASSERTION]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout.strip()
    assert found == "the trial's own, its process cannot go on", found or "nothing was said"
    return found


def decoding(bench: Bench) -> str:
    """JPEG files decoded, cropped to 224 and on the device, by decoders."""
    from torchvision.io import write_jpeg

    count, folder = 512, bench.place / "jpeg"
    rng = generator(0, "files")
    for split, n in (("train", count // 2), ("val", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                small = torch.rand(1, 3, 24, 32, generator=rng)  # large plains, as photographs have
                image = torch.nn.functional.interpolate(small, (375, 500), mode="bicubic")[0]
                pixels = (image.clamp(0, 1) * 255).byte()
                write_jpeg(pixels, str(folder / split / name / f"{i}.jpg"), quality=90)
    settings = {"name": "image_folder", "folder": str(folder), "image_size": 224}
    settings |= {"reading": "stream", "train_images": None, "validation_images": 8}
    data = load_dataset(change(bench.recipe("imagenet100_224"), "data", **settings).data)
    view, rates = View(augmentation=bench.recipe().augmentation), {}
    most = os.cpu_count() or 1
    for workers in sorted({1, 4, most} if bench.on_gpu else {1}):
        feed = Feed(data.train, view, bench.device, workers=workers)
        for _ in range(2):  # the second epoch: decoders are there
            began, seen = time.perf_counter(), 0
            for pixels, _ in feed.batches(
                torch.arange(len(data.train)).split(64), generator(0, "augment")
            ):
                seen += len(pixels)
            rates[workers] = seen / (time.perf_counter() - began)
    said = ", ".join(f"{workers}: {rate:,.0f}" for workers, rate in rates.items())
    return f"images/s by decoders: {said}; {most} cores"


def rates(bench: Bench) -> str:
    """Images per second, MFU and kernels of a step, pixels already on the device."""
    said = []
    for name, n in RATED.items() if bench.on_gpu else [("laptop", 64)]:
        recipe, precision = bench.recipe(name), "bfloat16" if bench.on_gpu else "float32"
        numbers, channels = NumberFormat(precision, bench.device), 1 if name == "laptop" else 3
        model = build_model(recipe, channels, 0).to(bench.device)
        optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=1e-4, fused=True)
        side, keep = recipe.data.image_size, recipe.kept_patches
        images = torch.randn(n, channels, side, side, device=bench.device)
        masks = recipe.sampler.shuffle(n, model.grid, keep, generator(0, "mask")).to(bench.device)

        def step(model=model, optimizer=optimizer, given=(images, masks, keep), numbers=numbers):
            with numbers.autocast():
                value = model(*given)
            numbers.backward(value)
            numbers.step(optimizer)
            optimizer.zero_grad(set_to_none=True)

        for _ in range(3):
            step()
        wait(bench)
        began, steps = time.perf_counter(), 20 if bench.on_gpu else 2
        for _ in range(steps):
            step()
        wait(bench)
        rate = steps * n / (time.perf_counter() - began)
        best = ceiling_flops_per_s(bench.device, precision, torch.get_num_threads())
        mfu = pretrain_flops(recipe, channels) * rate / best
        said.append(f"{name} {rate:,.0f} images/s, MFU {mfu:.0%}, {kernels(bench, step)} kernels")
        del model, optimizer, images, masks, step
        free_gpu_memory(bench.device)
    return "; ".join(said)


def wait(bench: Bench) -> None:
    if bench.on_gpu:
        torch.cuda.synchronize()


def kernels(bench: Bench, step: Callable[[], None]) -> int:
    """Count what a step launches on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if bench.on_gpu else ProfilerActivity.CPU
    with profile(activities=[kind]) as seen:
        step()
        wait(bench)
    wanted = torch.autograd.DeviceType.CUDA if bench.on_gpu else torch.autograd.DeviceType.CPU
    return sum(each.device_type == wanted for each in seen.events())


# with Ray -----------------------------------------------------------------------------------------


STUDY = """\
recipe: smoke
factors:
  mask_ratio: [0.25, 0.5, 0.75, 0.9]
phases: [pretrain]
seeds: 1
"""


def study(bench: Bench, *flags: str) -> subprocess.Popen:
    """Start a study of four trials in a store of its own."""
    bench.count += 1
    place = bench.place / f"study-{bench.count}"
    place.mkdir()
    (place / "study.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "mae_ablation", "run", str(place / "study.yaml"), "--local"]
    words += ["--store", str(place / "store"), "--reports", str(place / "reports"), *flags]
    log = (place / "log.txt").open("w")
    process = subprocess.Popen(words, cwd=place, stdout=log, stderr=log)
    process.place = place
    return process


def finish(process: subprocess.Popen, timeout: float = 600) -> list[dict]:
    """Wait for a study, and read the results of its pre-trainings."""
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # it saves, and ends its Ray
        status = f"after {timeout:g} s: {process.wait(120)}"
    log = (process.place / "log.txt").read_text()
    last = "; ".join(log.split("\n")[-4:])
    assert status == 0, f"exit status {status}: {last}"
    found = [json.loads(p.read_text()) for p in process.place.glob("store/pretrain/*/result.json")]
    assert len(found) == 4, f"{len(found)} of 4 results"
    return found


@contextmanager
def watch_gpu() -> Iterator[dict]:
    """Note the processes on the GPU while the block runs, and the most memory that one takes."""
    seen, over = {"processes": set(), "mib": 0}, threading.Event()
    words = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]

    def look() -> None:
        while torch.cuda.is_available() and not over.wait(0.5):
            said = subprocess.run(words, capture_output=True, text=True).stdout
            for pid, mib in re.findall(r"(\d+), *(\d+|\[N/A\])", said):
                seen["processes"].add(int(pid))
                seen["mib"] = max(seen["mib"], int(mib) if mib.isdigit() else 0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def lanes(bench: Bench) -> str:
    """A study on one whole GPU, on four quarters of it, and on none."""
    said = []
    shapes = (("1", "1"), ("0.25", "4")) if bench.on_gpu else ()
    for gpus, count in shapes:
        began = time.perf_counter()
        with watch_gpu() as seen:
            found = finish(study(bench, "--gpus", gpus, "--lanes", count))
        assert all(each["device"] != "cpu" for each in found), "trained on the CPU"
        seconds = time.perf_counter() - began
        said.append(f"{count} lanes of {gpus} GPU: {seconds:.0f} s, {seen['mib']} MiB a process")
    with watch_gpu() as seen:
        found = finish(study(bench, "--gpus", "0", "--lanes", "1"))
    assert {each["device"] for each in found} == {"cpu"}
    extra = seen["processes"] - {os.getpid()}  # a container may give this one another number
    assert len(extra) <= 1, f"--gpus 0 has {len(extra)} processes on the GPU"
    return "; ".join([*said, "--gpus 0: four trials on the CPU, none of them on the GPU"])


def workers(bench: Bench) -> str:
    """Two workers over NCCL train what one does; one of them killed, the study completes."""
    bench.need_gpu()
    if torch.cuda.device_count() < 2:
        raise Skipped("needs two GPUs")
    one, two = finish(study(bench, "--gpus", "1")), None
    process = study(bench, "--gpus", "1", "--workers", "2", "--lanes", "1")
    two = finish(process)
    pairs = zip(*(sorted(r["train_loss"] for r in found) for found in (one, two)), strict=True)
    worst = max(abs(a / b - 1) for a, b in pairs)
    assert worst < 1e-2, f"losses differ by {worst:.1e}"

    # one worker killed in the middle
    import psutil

    process, killed = study(bench, "--gpus", "1", "--workers", "2", "--lanes", "1"), False
    while process.poll() is None and not killed:
        time.sleep(0.2)
        for child in psutil.Process(process.pid).children(recursive=True):
            if "TrainWorker" in " ".join(child.cmdline()):
                time.sleep(5)
                child.kill()
                killed = True
                break
    finish(process)
    return f"losses within {worst:.1e}; one worker {'killed' if killed else 'was never seen'}"


POINTS: dict[str, Callable[[Bench], str]] = FIRST_POINTS | {
    each.__name__: each for each in (sync, resume, compiled, memory, assertion, decoding, rates)
}
WITH_RAY: dict[str, Callable[[Bench], str]] = {each.__name__: each for each in (lanes, workers)}


# the page -----------------------------------------------------------------------------------------


def check(name: str, function: Callable[[Bench], str], bench: Bench) -> Point:
    """Run a point, and print its line."""
    began, state = time.perf_counter(), "ok"
    try:
        found = function(bench)
    except Skipped as reason:
        state, found = "skipped", str(reason)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        state, found = "FAIL", f"{type(error).__name__}: {lines[0]}"
    point = Point(name, state, found, round(time.perf_counter() - began, 1))
    print(f"{state:<8}{name}: {found} ({point.seconds:g} s)", flush=True)
    return point


def page(points: list[Point], facts: dict[str, str]) -> str:
    """Write the points as Markdown."""
    lines = ["# GPU", "", "What `python tests/gpu_smoke.py` found.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| point | | found | seconds |", "|---|---|---|---:|"]
    lines += [
        f"| {p.name} | {p.state} | {p.found.replace('|', '/')} | {p.seconds:g} |" for p in points
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-ray", action="store_true", help="leave out what starts Ray")
    parser.add_argument("--only", help=f"of {','.join([*POINTS, *WITH_RAY])}")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, to try the script")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="where to write")
    asked = parser.parse_args(arguments)
    points = POINTS | ({} if asked.no_ray else WITH_RAY)
    if asked.only:
        names = asked.only.split(",")
        if wrong := [name for name in names if name not in points]:
            parser.error(f"no point {wrong[0]}: there are {', '.join(points)}")
        points = {name: points[name] for name in names}
    if not torch.cuda.is_available() and not asked.rehearse:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without it"
        print(f"skipped: torch {torch.__version__} finds no CUDA device ({built}); nothing checked")
        return 0

    with tempfile.TemporaryDirectory(prefix="gpu-smoke-") as place:
        bench = Bench("cpu" if asked.rehearse else "cuda", Path(place))
        done = [check(name, function, bench) for name, function in points.items()]
    facts = {
        "version": code_commit(),
        "checked at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    asked.reports.mkdir(parents=True, exist_ok=True)
    (asked.reports / "gpu.md").write_text(page(done, facts))
    found = {"facts": facts, "points": [point._asdict() for point in done]}
    (asked.reports / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {asked.reports / 'gpu.md'} and gpu.json")
    return 1 if any(point.state == "FAIL" for point in done) else 0


if __name__ == "__main__":
    sys.exit(main())

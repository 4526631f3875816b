"""Fused functions: what a C compiler makes of fused.c computes what torch does."""

from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import Block
from torch.nn import functional as F

from mae_ablation.mae import fused, native, transformer
from mae_ablation.mae.transformer import Placed, fused_block, is_usable, plain_block, run_block
from mae_ablation.phases.optim import generator

needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
pytestmark = needs_compiler


@pytest.fixture
def afresh(tmp_path, monkeypatch):
    """Nothing compiled, nothing decided; and so again afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for decision in (native.library, is_usable):
        decision.cache_clear()
    yield monkeypatch
    for decision in (native.library, is_usable):
        decision.cache_clear()


def a_compiler(folder: Path, script: str) -> str:
    path = folder / "a-compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def a_block(width, heads):
    torch.manual_seed(0)
    block = Block(width, heads, 2.5, qkv_bias=True)
    for parameter in block.parameters():
        if parameter.ndim == 1:  # initial ones are zero, or one: too easy
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    return block


def tokens_of(n, own, width, more=0):
    """Own tokens of n images, and `more` for each of them, placed from a table."""
    rng = generator(0, "test")
    x = torch.randn(n, own, width, generator=rng)
    if not more:
        return x, None
    index = torch.rand(n, 2 * more, generator=rng).argsort(dim=1)[:, :more]
    return x, Placed(torch.randn(2 * more, width, generator=rng), index)


def told(run, block, x, placed, skip, numbers=torch.float32):
    """Outputs, and gradients of everything, of a loss that weighs every output differently."""
    block = block.to(numbers)
    x = x.to(numbers).requires_grad_()
    leaves = [x, *block.parameters()]
    if placed:
        table = placed.table.to(numbers).requires_grad_()
        placed, leaves = Placed(table, placed.index), [*leaves, table]
    out = run(block, x, placed, skip)
    weights = torch.randn(out.shape, generator=generator(1, "test")).to(numbers)
    gradients = torch.autograd.grad((out * weights).sum(), leaves)
    block.float()
    return [out.detach(), *gradients]


SIZES = {
    "one token": (3, 1, 0, 0, 16, 2),
    "one image": (1, 5, 0, 0, 16, 1),
    "heads of odd width": (4, 7, 0, 0, 27, 3),
    "whole vectors": (4, 16, 0, 0, 64, 4),
    "many tokens": (2, 197, 0, 0, 48, 2),
    "the last tokens": (4, 20, 0, 13, 24, 2),
    "placed tokens": (4, 6, 11, 0, 24, 2),
    "the placed ones alone": (4, 6, 11, 6, 24, 2),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_a_block_and_its_gradients_are_as_exact_as_torch_s(sizes, threads, two_threads):
    torch.set_num_threads(threads)
    n, own, more, skip, width, heads = sizes
    block, (x, placed) = a_block(width, heads), tokens_of(n, own, width, more)
    exact = told(plain_block, block, x, placed, skip, torch.float64)
    ours, torchs = (told(run, block, x, placed, skip) for run in (fused_block, plain_block))
    for our, plain, true in zip(ours, torchs, exact, strict=True):
        off, allowed = ((value - true).abs().max().item() for value in (our, plain))
        assert off <= 3 * allowed + 2e-6 * (1 + true.abs().max().item())


def test_gelu_far_out():
    x = torch.tensor([[-1e30, -1e5, -90.0, -6.0, -1e-30, 0.0, 1e-30, 6.0, 90.0, 1e5, 1e15]])
    for value in (x, x[:, :8], x[:, :3]):  # whole vectors and parts of one
        plain = value.clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.gelu(plain).sum(), plain)
        ours, out = value.clone(), torch.empty_like(value)
        fused.call("gelu", *value.shape, ours, torch.zeros(value.shape[1]), out)
        torch.testing.assert_close(out, F.gelu(value), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_a_feed_forward_in_parts_is_the_whole_one(rows, monkeypatch):
    block, (x, _) = a_block(24, 2), tokens_of(1, 11, 24)
    whole = told(fused_block, block, x, None, 0)
    monkeypatch.setattr(fused, "PART_BYTES", 0)
    monkeypatch.setattr(fused, "LEAST_ROWS", rows)
    for part, value in zip(told(fused_block, block, x, None, 0), whole, strict=True):
        torch.testing.assert_close(part, value, rtol=1e-4, atol=1e-5)
    edges = [(part.start, part.stop) for part in fused.parts(x[0])]
    assert edges[0][0] == 0 and edges[-1][1] == 11 and len(edges) == -(-11 // rows)
    assert all(end == start for (_, end), (start, _) in zip(edges, edges[1:], strict=False))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_with_its_image(value):
    x, _ = tokens_of(3, 9, 24)
    x[1, 4, 5] = value
    out = run_block(a_block(24, 2), x)
    assert out[1].isnan().all() and out[[0, 2]].isfinite().all()


def test_equal_threads_give_equal_bits(two_threads):
    block, (x, placed) = a_block(24, 2), tokens_of(5, 6, 24, 11)
    first, second = (told(fused_block, block, x, placed, 6) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_is_compiled_once_for_a_machine(afresh, tmp_path):
    assert is_usable()
    (made,) = (tmp_path / "cache" / "mae-ablation").iterdir()
    native.library.cache_clear()
    afresh.setattr(native, "build", lambda path: pytest.fail("compiled again"))
    assert native.library() is not None and made.suffix == ".so"


@pytest.mark.parametrize("width", ["-D__AVX512F__", "-U__AVX512F__"])
def test_vectors_of_another_width(afresh, tmp_path, width):
    """16 or 8 numbers, whatever this machine has: the compiler makes do with shorter ones."""
    afresh.setenv("CC", a_compiler(tmp_path, f'exec {native.compiler()} "$@" {width}'))
    for sizes in SIZES.values():
        n, own, more, skip, d, heads = sizes
        block, (x, placed) = a_block(d, heads), tokens_of(n, own, d, more)
        ours, torchs = (told(run, block, x, placed, skip) for run in (fused_block, plain_block))
        for our, plain in zip(ours, torchs, strict=True):
            torch.testing.assert_close(our, plain, rtol=1e-3, atol=1e-4)
    assert is_usable()


@pytest.mark.parametrize("missing", ["not there", "fails"])
def test_without_a_compiler_torch_computes(afresh, tmp_path, missing):
    broken = a_compiler(tmp_path, "exit 1")
    afresh.setenv("CC", broken if missing == "fails" else str(tmp_path / "nothing"))
    assert native.library() is None and not is_usable()
    block, (x, placed) = a_block(24, 2), tokens_of(4, 6, 24, 11)
    assert torch.equal(run_block(block, x, placed, 11), plain_block(block, x, placed, 6))


def test_a_compiler_without_openmp_gives_one_thread(afresh, tmp_path, two_threads):
    block, (x, placed) = a_block(24, 2), tokens_of(4, 6, 24, 11)
    torch.set_num_threads(1)
    alone = told(fused_block, block, x, placed, 6)
    native.library.cache_clear()
    real = native.compiler()
    refuses = f'case " $* " in *" -fopenmp "*) exit 1;; esac; exec {real} "$@"'
    afresh.setenv("CC", a_compiler(tmp_path, refuses))
    torch.set_num_threads(2)
    without = told(fused_block, block, x, placed, 6)
    assert all(torch.equal(a, b) for a, b in zip(without, alone, strict=True))


def test_what_a_compiler_got_wrong_is_not_used(afresh, tmp_path):
    text = native.SOURCE.read_text()
    for right, wrong in (("0.39894228f", "0.3f"), ("along += wj[k] * dj[k]", "along += wj[k]")):
        assert right in text
        source = tmp_path / "fused.c"
        source.write_text(text.replace(right, wrong))
        afresh.setattr(native, "SOURCE", source)
        native.library.cache_clear()
        is_usable.cache_clear()
        assert native.library() is not None and not is_usable()


def test_what_does_not_fit_is_left_to_torch():
    x, _ = tokens_of(2, 9, 24)
    assert transformer.can_fuse(x, 9)
    assert not transformer.can_fuse(x, 257)
    assert not transformer.can_fuse(x.double(), 9)
    assert not transformer.can_fuse(x.to("meta"), 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not transformer.can_fuse(x, 9)

"""Transformer blocks that compute no token more than is asked for; timm's `Block` has the weights.

Two savings over running a block on every token, both exact: outputs are computed only for tokens
that are wanted, and tokens that are the same in every image are projected once for all images.

Shapes: n images, t tokens of an image, q of them wanted, r placed from a table of s rows, d width,
        e = d / heads.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Attention, Block
from torch.nn import functional as F

from mae_ablation.mae import fused
from mae_ablation.mae.native import library

PLAIN_TOKENS = 256
"""up to so many, on a CPU, a head's scores are kept, by fused.c or by torch: faster than torch's
fused attention by 3 % (10 to 50 tokens) to 10 % (197) of a step; beyond it they fill memory"""

VECTOR = 16
"""numbers that a CPU adds at a time, at most: over fewer tokens a softmax runs along the queries, a
half of its time by torch"""


class Placed(NamedTuple):
    """Tokens that are rows of one table in every image, each image with its own choice."""

    table: torch.Tensor
    """(s, d)"""
    index: torch.Tensor
    """(n, r) int64"""


def run_block(
    block: Block, x: torch.Tensor, placed: Placed | None = None, last: int | None = None
) -> torch.Tensor:
    """One Transformer block over tokens x (n, t, d), which placed ones follow: (n, q, d).

    Dropout, drop path and layer scale are not looked at: a masked autoencoder has none.

    Args:
        last: how many outputs are computed, those of the last tokens; None: all. With placed
            tokens it is their number.
    """
    tokens = x.shape[1] + (placed.index.shape[1] if placed else 0)
    skip = 0 if last is None else tokens - last
    run = fused_block if can_fuse(x, tokens) else plain_block
    return run(block, x, placed, skip)


def plain_block(block: Block, x: torch.Tensor, placed: Placed | None, skip: int) -> torch.Tensor:
    """The block by torch's own operations; outputs of all tokens but the first `skip`."""
    query, key, value = project(block.attn, block.norm1(x), skip)
    x = x[:, skip:]
    if placed:
        rows = torch.cat(project(block.attn, block.norm1(placed.table)), dim=-1)[placed.index]
        query, key, value = (
            torch.cat(pair, dim=1)
            for pair in zip((query, key, value), rows.chunk(3, dim=-1), strict=True)
        )
        x = torch.cat([x, placed.table[placed.index]], dim=1)
    x = x + block.attn.proj(attend(query, key, value, block.attn.num_heads))
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


def project(attention: Attention, x: torch.Tensor, skip: int = 0) -> tuple[torch.Tensor, ...]:
    """Queries of all tokens but the first `skip`, keys and values of all."""
    weight, bias, width = attention.qkv.weight, attention.qkv.bias, x.shape[-1]
    if skip == 0:
        return F.linear(x, weight, bias).chunk(3, dim=-1)
    queries = F.linear(x[:, skip:], weight[:width], bias[:width])
    return (queries, *F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of queries (n, q, d) over keys and values (n, t, d): (n, q, d), before `proj`."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if query.device.type == "cpu" and key.shape[2] <= PLAIN_TOKENS:
        query = query * query.shape[-1] ** -0.5
        if key.shape[2] < VECTOR and not torch.compiler.is_compiling():
            weights = (key @ query.transpose(-2, -1)).softmax(dim=-2)  # (n, heads, t, q)
            out = weights.transpose(-2, -1) @ value
        else:
            out = (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    else:
        out = F.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2).flatten(2)


# on a CPU -----------------------------------------------------------------------------------------


def can_fuse(x: torch.Tensor, tokens: int) -> bool:
    """Whether a block over x, of so many tokens an image, is computed by `fused_block`."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype is torch.float32
        and tokens <= PLAIN_TOKENS
        and not torch.is_autocast_enabled("cpu")
        and is_usable()
    )


@lru_cache(maxsize=1)
def is_usable() -> bool:
    """Whether fused.c could be compiled, and computes on this machine what torch does.

    A compiler may err, so a small block is tried both ways: outputs and every gradient.
    """
    if library() is None:
        return False
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        block = Block(24, 2, qkv_bias=True)
        x, table = torch.randn(2, 5, 24), torch.randn(6, 24)
        placed = Placed(table.requires_grad_(), torch.tensor([[0, 1, 2, 3], [5, 1, 4, 3]]))
        leaves = [x.requires_grad_(), table, *block.parameters()]
        outs = [run(block, x, placed, 5) for run in (fused_block, plain_block)]
        told = [(out, *torch.autograd.grad(out.square().sum(), leaves)) for out in outs]
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*told, strict=True))


def fused_block(block: Block, x: torch.Tensor, placed: Placed | None, skip: int) -> torch.Tensor:
    """`plain_block` in a third of the passes over memory (fused.py)."""
    rows, tokens, index = rows_of(x, placed)
    attention, mlp, width = block.attn, block.mlp, rows.shape[1]
    rows, normed = fused.norm(rows, block.norm1)
    qkv = normed @ attention.qkv.weight.t()
    if index is not None:
        rows, qkv = fused.take(rows, index), fused.take(qkv, index)
    if skip:
        rows = rows.view(len(x), tokens, width)[:, skip:].reshape(-1, width)
    mixed = fused.attend(qkv, attention.qkv.bias, tokens, skip, attention.num_heads)
    mixed = mixed @ attention.proj.weight.t()
    rows, normed = fused.add_norm(rows, mixed, attention.proj.bias, block.norm2)
    out = fused.add(rows, fused.feed_forward(normed, mlp), mlp.fc2.bias)
    return out.view(len(x), tokens - skip, width)


def rows_of(
    x: torch.Tensor, placed: Placed | None
) -> tuple[torch.Tensor, int, torch.Tensor | None]:
    """Every row once, the tokens of an image, and the rows (n, t) that they are; None: in order."""
    n, own, _ = x.shape
    rows = x.contiguous().flatten(0, 1)
    if placed is None:
        return rows, own, None
    index = torch.cat([torch.arange(n * own).view(n, own), placed.index + n * own], dim=1)
    return torch.cat([rows, placed.table]), index.shape[1], index

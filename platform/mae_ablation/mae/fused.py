"""What stands between a block's matrix products, each as one step of autograd, by fused.c.

torch takes some thirty passes over memory where these take ten: a layer norm together with the sum
before it, GELU with its slope, a head's attention within the caches. The numbers are torch's to the
last bits of a float. Tensors are float32 on a CPU and contiguous.

Shapes: r rows, d width, n images of t tokens, q of them wanted, h heads.
"""

import ctypes

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from mae_ablation.mae.native import library

PART_BYTES, LEAST_ROWS = 2 * 2**20, 512
"""of hidden numbers, and of rows, that a feed-forward takes together: ViT-T's step (192 x 12) is
2 % faster than all at once; with fewer rows matrix products pack their weights too often"""


def norm(x: torch.Tensor, layer: nn.LayerNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """x (r, d) as it is, and normalised. Go on with both: their gradients then meet in one pass."""
    return Norm.apply(x, layer.weight, layer.bias, layer.eps)


def add_norm(
    x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor, layer: nn.LayerNorm
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + y + bias of x, y (r, d), and it normalised. The sum takes y's place."""
    return AddNorm.apply(x, y, bias, layer.weight, layer.bias, layer.eps)


def attend(
    qkv: torch.Tensor, bias: torch.Tensor, tokens: int, skip: int, heads: int
) -> torch.Tensor:
    """Attention of projected tokens (n t, 3 d), before their bias (3 d) is added: (n q, d).

    Args:
        tokens: t, of an image.
        skip: the first tokens of an image, which ask for nothing.
    """
    return Attend.apply(qkv, bias, tokens, skip, heads)


def feed_forward(x: torch.Tensor, mlp: nn.Module) -> torch.Tensor:
    """fc2(gelu(fc1(x))) of x (r, d), without fc2's bias."""
    return FeedForward.apply(x, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight)


def add(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x + y + bias of x, y (r, d). The sum takes y's place."""
    return Add.apply(x, y, bias)


def take(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows (r, d) that `index` (n, t) names: (n t, d)."""
    return Take.apply(rows, index)


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        out, mean, rstd = torch.empty_like(x), x.new_empty(len(x)), x.new_empty(len(x))
        call("layer_norm", *x.shape, eps, x, weight, bias, out, mean, rstd)
        ctx.save_for_backward(x, mean, rstd, weight)
        return x.view_as(x), out

    @staticmethod
    @once_differentiable
    def backward(ctx, dx, dout):
        dx, dweight, dbias, _ = norm_backward(*ctx.saved_tensors, dx, dout)
        return dx, dweight, dbias, None


class AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, bias, weight, norm_bias, eps):
        out, mean, rstd = torch.empty_like(x), x.new_empty(len(x)), x.new_empty(len(x))
        call("add_layer_norm", *x.shape, eps, x, y, bias, weight, norm_bias, y, out, mean, rstd)
        ctx.mark_dirty(y)
        ctx.save_for_backward(y, mean, rstd, weight)
        return y, out

    @staticmethod
    @once_differentiable
    def backward(ctx, dsum, dout):
        dx, dweight, dnorm_bias, dbias = norm_backward(*ctx.saved_tensors, dsum, dout)
        return dx, dx, dbias, dweight, dnorm_bias, None


def norm_backward(x, mean, rstd, weight, dx, dout):
    """Gradients of x, the norm's weight and bias, and of a bias that was added to x."""
    total, sums = torch.empty_like(x), [torch.empty_like(weight) for _ in range(3)]
    dx, dout = dx.contiguous(), dout.contiguous()
    call("layer_norm_backward", *x.shape, x, mean, rstd, weight, dout, dx, total, *sums)
    return total, *sums


class Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, bias, tokens, skip, heads):
        d = len(bias) // 3
        n, wanted = len(qkv) // tokens, tokens - skip
        ctx.sizes = n, tokens, skip, heads, d // heads
        out = qkv.new_empty(n * wanted, d)
        weights = qkv.new_empty(n, heads, wanted, library().weights_stride(tokens))
        call("attend", *ctx.sizes, qkv, bias, out, weights)
        ctx.save_for_backward(qkv, bias, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        qkv, bias, weights = ctx.saved_tensors
        dqkv, dbias, dout = torch.empty_like(qkv), torch.empty_like(bias), dout.contiguous()
        call("attend_backward", *ctx.sizes, qkv, bias, weights, dout, dqkv, dbias)
        return dqkv, dbias, None, None, None


class FeedForward(torch.autograd.Function):
    """Some rows at a time, so that what is hidden is still in the caches when it is needed."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2):
        hidden, slope = (x.new_empty(len(x), len(bias1)) for _ in range(2))
        out = torch.empty_like(x)
        for rows in parts(hidden):
            torch.mm(x[rows], weight1.t(), out=slope[rows])
            call("gelu", *slope[rows].shape, slope[rows], bias1, hidden[rows])
            torch.mm(hidden[rows], weight2.t(), out=out[rows])
        ctx.save_for_backward(x, hidden, slope, weight1, weight2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        x, hidden, slope, weight1, weight2 = ctx.saved_tensors
        dx, dout = torch.empty_like(x), dout.contiguous()
        dweight1, dweight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        dbias1, more = x.new_zeros(len(weight1)), x.new_empty(len(weight1))
        for rows in parts(hidden):
            dhidden = dout[rows] @ weight2
            dweight2.addmm_(dout[rows].t(), hidden[rows])
            call("gelu_backward", *dhidden.shape, dhidden, slope[rows], dhidden, more)
            dbias1 += more
            dweight1.addmm_(dhidden.t(), x[rows])
            torch.mm(dhidden, weight1, out=dx[rows])
        return dx, dweight1, dbias1, dweight2


def parts(hidden: torch.Tensor) -> list[slice]:
    """All rows (r, f), in even parts."""
    at_once = max(LEAST_ROWS, PART_BYTES // (4 * hidden.shape[1]))
    number = -(-len(hidden) // at_once)
    edges = [len(hidden) * k // number for k in range(number + 1)]
    return [slice(first, end) for first, end in zip(edges, edges[1:], strict=False)]


class Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, bias):
        call("add_residual", *x.shape, x, bias, y)
        ctx.mark_dirty(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        dbias, dout = dout.new_empty(dout.shape[1]), dout.contiguous()
        call("sum_rows", *dout.shape, dout, dbias)
        return dout, dout, dbias


class Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, index):
        out = rows.new_empty(index.numel(), rows.shape[1])
        call("take_rows", *out.shape, index, rows, out)
        ctx.save_for_backward(index)
        ctx.rows = len(rows)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        (index,) = ctx.saved_tensors
        drows, dout = dout.new_zeros(ctx.rows, dout.shape[1]), dout.contiguous()
        call("take_rows_backward", *dout.shape, index, dout, drows)
        return drows, None


def call(name: str, *arguments: torch.Tensor | int | float) -> None:
    """A function of fused.c, by as many threads as torch has."""
    words = (
        ctypes.c_void_p(a.data_ptr())
        if isinstance(a, torch.Tensor)
        else (ctypes.c_float if isinstance(a, float) else ctypes.c_long)(a)
        for a in arguments
    )
    library()[name](ctypes.c_int(torch.get_num_threads()), *words)

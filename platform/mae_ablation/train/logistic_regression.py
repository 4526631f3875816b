"""Multinomial logistic regression with an L2 penalty, to convergence: convex, so one answer.

The objective over n images is

    mean cross entropy + penalty / 2 x sum of squared weights,

biases not penalised; scikit-learn's C is 1 / (n x penalty). Full batches, L-BFGS with a strong
Wolfe line search, from zero or from the solution of a stronger penalty: no order, no drawn
initialisation, and so no noise of its own.

The optimiser sees the features in the basis of their covariance, each direction scaled by about the
curvature that the objective has along it. That changes the way, not the end: raw pixels, with
directions whose variances differ by a million, would need thousands of passes.

Shapes: n images, D features, K classes.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

TOLERANCE = 1e-4
"""largest component of the gradient, in the scaled basis, at which a solution has converged"""
MOST_STEPS = 1000
HISTORY = 20  # pairs of steps and gradients that L-BFGS remembers
CURVATURE = 0.1  # of the cross entropy along a unit feature: about p (1 - p) of ten classes


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """Weights of the features as given, not standardised."""

    weight: torch.Tensor
    """(K, D)"""
    bias: torch.Tensor
    """(K,)"""
    objective: float
    gradient: float
    """its largest component where the optimiser stopped"""
    converged: bool

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (m, K) of features (m, D)."""
        return F.linear(features.to(self.weight.dtype), self.weight, self.bias)


class LogisticRegression:
    """Solves a regression on one set of features for one penalty after another.

    Args:
        features: (n, D); standardised here by their own mean and standard deviation.
        labels: (n,) int64 in [0, K).
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
        self.labels = labels
        self.mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
        self.std = torch.where(std > 1e-6, std, torch.ones_like(std))
        standard = (features - self.mean) / self.std
        # the basis of their covariance
        covariance = (standard.T @ standard).double() / len(features)
        variances, basis = torch.linalg.eigh(covariance)
        self.variances, self.basis = variances.clamp_min(0).to(features), basis.to(features)
        self.inputs = standard @ self.basis
        self._weight = torch.zeros(classes, features.shape[1]).to(features)  # in the basis
        self._bias = torch.zeros(classes).to(features)

    def solve(self, penalty: float) -> Solution:
        """Find the minimum for one penalty, from the last solution on."""
        # each direction scaled by about its curvature, the penalty's included
        scale = (CURVATURE * self.variances + penalty).rsqrt()
        inputs, penalties = self.inputs * scale, penalty * scale.square()
        weight = (self._weight / scale).requires_grad_()
        bias = self._bias.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=MOST_STEPS,
            max_eval=2 * MOST_STEPS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            optimizer.zero_grad()
            fit = F.cross_entropy(F.linear(inputs, weight, bias), self.labels)
            loss = fit + (penalties * weight.square()).sum() / 2
            loss.backward()
            return loss

        # back to the features as given
        optimizer.step(objective)
        value = objective().item()  # the line search may end on another point than it evaluated
        gradient = max(weight.grad.abs().max().item(), bias.grad.abs().max().item())
        self._weight, self._bias = (weight * scale).detach(), bias.detach()
        given = (self._weight @ self.basis.T) / self.std
        return Solution(
            weight=given,
            bias=self._bias - given @ self.mean,
            objective=value,
            gradient=gradient,
            converged=gradient <= TOLERANCE,
        )

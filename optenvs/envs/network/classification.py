"""Two classes of points, and the minimiser of their regularised logistic loss."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys, bits, normal, uniform
from optenvs.core.struct import struct

FLIPPED = 0.01
"""Share of the labels that are drawn anew."""
HALVINGS = 12
"""Times that a step of Newton's method may be halved."""


@struct
class Samples:
    """The samples of ``N`` nodes.

    Attributes:
        inputs: ``(B, N, m, d)``.
        labels: -1 or +1, ``(B, N, m)``.
        weights: of each sample in its node's mean, of sum 1 a node; 0 for padding, ``(B, N, m)``.
    """

    inputs: Float[Tensor, "B N m d"]
    labels: Float[Tensor, "B N m"]
    weights: Float[Tensor, "B N m"]


def two_classes(keys: Keys, nodes: int, count: int, dim: int) -> Samples:
    """Samples with the law of scikit-learn's ``make_classification(m, d, n_classes=2, n_redundant=0)``.

    For each node anew: four clusters of m/4 points (the first ones have one more where 4 does not divide m)
    around the corners (-1, -1), (-1, 1), (1, -1), (1, 1) of two informative inputs, with labels -1, 1, -1, 1.
    A cluster's points are its corner plus a standard normal vector times a 2x2 matrix of entries U(-1, 1) of
    its own. The other d - 2 inputs are standard normal; which two are informative is random. Each label is,
    with probability 0.01, replaced by a random one. All of this is the same in law; the numbers differ from
    scikit-learn's, and the samples of a node keep the order of the clusters, which no f_i depends on.
    """
    double, device = torch.float64, keys.device
    inputs = normal(keys, "inputs", (nodes, count, dim), dtype=double)
    sizes = [count // 4 + (cluster < count % 4) for cluster in range(4)]
    of_each = [cluster for cluster, size in enumerate(sizes) for _ in range(size)]
    cluster = torch.tensor(of_each, dtype=torch.int64, device=device)
    mixing = uniform(keys, "covariance", (nodes, 4, 2, 2), dtype=double, low=-1.0, high=1.0)
    corner = torch.stack((cluster // 2, cluster % 2), -1).to(double) * 2 - 1
    told = (inputs[..., :2, None] * mixing[:, :, cluster]).sum(-2) + corner
    inputs = torch.cat((told, inputs[..., 2:]), -1)
    order = bits(keys, "order of the inputs", (nodes, dim)).argsort(-1)
    inputs = inputs.gather(-1, order.unsqueeze(-2).expand_as(inputs))
    flipped = uniform(keys, "flipped", (nodes, count), dtype=double)  # below 0.005: to -1, to 0.01: to +1
    labels = (cluster % 2).to(double).expand_as(flipped) * 2 - 1
    labels = torch.where(flipped < FLIPPED, torch.where(flipped < FLIPPED / 2, -1.0, 1.0), labels)
    return Samples(inputs=inputs, labels=labels, weights=torch.full_like(labels, 1 / count))


def minimise(
    signed: Float[Tensor, "B M d"], weights: Float[Tensor, "B M"], mu: float
) -> Float[Tensor, "B d"]:
    """The minimiser of sum_j w_j log(1 + exp(-s_j'x)) + mu/2 |x|^2, for samples times their labels s_j.

    Newton's method with a line search: of the steps 1, 1/2, 1/4, ... that with the least slope in absolute
    value. Near the solution that is 1, and the error is squared in every step, down to rounding. The number
    of steps depends on mu alone.
    """
    steps = 12 + 3 * math.ceil(max(0.0, -math.log10(mu)))
    x = torch.zeros_like(signed[:, 0])
    identity = mu * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    sizes = 0.5 ** torch.arange(HALVINGS + 1, dtype=x.dtype, device=x.device)
    margin = torch.zeros_like(weights)
    for _ in range(steps):  # solve_ex: an error would have to be looked for
        chance = torch.sigmoid(-margin)
        gradient = mu * x - ((weights * chance).unsqueeze(-2) @ signed).squeeze(-2)
        bend = (weights * chance * (1 - chance)).unsqueeze(-1)
        step = -torch.linalg.solve_ex(signed.mT @ (bend * signed) + identity, gradient).result
        along = (signed @ step.unsqueeze(-1)).squeeze(-1)
        regular, curved = mu * (x * step).sum(-1), mu * step.square().sum(-1)
        # (H, B): one pass over the samples a size, so that the memory does not grow
        slopes = torch.stack(
            [
                regular + size * curved - (weights * along * torch.sigmoid(-(margin + size * along))).sum(-1)
                for size in sizes
            ]
        )
        size = sizes[slopes.abs().argmin(0)].unsqueeze(-1)
        x, margin = x + size * step, margin + size * along
    return x

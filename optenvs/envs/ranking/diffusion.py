"""A small diffusion model of handwritten digits, its deterministic sampler, and a judge of its images.

    z = cos(a) x + sin(a) e,   v = cos(a) e - sin(a) x,   a = 0 .. pi/2                (Salimans and Ho 2022)
    z <- cos(h) z - sin(h) v(z, a),   a <- a - h                                        (their eq. 11: DDIM)

x is an image with pixels in -1 .. 1, e Gaussian noise. A network estimates the velocity v; from a = pi/2,
where z is nothing but noise, the sampler of DDIM (Song, Meng, Ermon 2021) turns z towards an image in equal
angles h. It draws nothing: an image is a function of its initial noise, the latent.

The judge is a classifier of images with one class more than there are digits: *no digit*, learnt from
mixtures of two digits, from noisy ones, and from those whose halves are exchanged. So its probability of a
digit is low too where an image is badly drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SIDE, CLASSES = 8, 10
PIXELS = SIDE * SIDE
WIDTH, BLOCKS, WAVES, JUDGES_WIDTH = 224, 3, 8, 128
SHAPES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("in.weight", (WIDTH, PIXELS)),
    ("in.bias", (WIDTH,)),
    *itertools.chain.from_iterable(
        (
            (f"block.{i}.angle", (WIDTH, 2 * WAVES)),
            (f"block.{i}.first.weight", (WIDTH, WIDTH)),
            (f"block.{i}.first.bias", (WIDTH,)),
            (f"block.{i}.last.weight", (WIDTH, WIDTH)),
        )
        for i in range(BLOCKS)
    ),
    ("out.weight", (PIXELS, WIDTH)),
    ("out.bias", (PIXELS,)),
    ("judge.0.weight", (JUDGES_WIDTH, PIXELS)),
    ("judge.0.bias", (JUDGES_WIDTH,)),
    ("judge.1.weight", (CLASSES + 1, JUDGES_WIDTH)),
    ("judge.1.bias", (CLASSES + 1,)),
)
"""The tensors of both networks."""

Weights = Mapping[str, Tensor]


def velocity(
    weights: Weights, z: Float[Tensor, "*B 64"], angle: float | Float[Tensor, "*B 1"]
) -> Float[Tensor, "*B 64"]:
    """The estimate of v: residual blocks of two layers, to each of which the angle is told by waves."""
    turns = torch.arange(1, WAVES + 1, dtype=z.dtype, device=z.device) * angle
    waves = torch.cat((turns.sin(), turns.cos()), -1)
    hidden = F.linear(z, weights["in.weight"], weights["in.bias"])
    for i in range(BLOCKS):
        first, bias = weights[f"block.{i}.first.weight"], weights[f"block.{i}.first.bias"]
        told = F.linear(waves, weights[f"block.{i}.angle"], bias)
        inner = F.silu(F.linear(F.layer_norm(hidden, (WIDTH,)), first) + told)
        hidden = hidden + F.linear(inner, weights[f"block.{i}.last.weight"])
    return F.linear(F.layer_norm(hidden, (WIDTH,)), weights["out.weight"], weights["out.bias"])


def generate(weights: Weights, latent: Float[Tensor, "*B 64"], steps: int) -> Float[Tensor, "*B 64"]:
    """The images of latents, pixels in 0 .. 1, by so many evaluations of the network."""
    z, turn = latent, math.pi / 2 / steps
    for step in range(steps):
        v = velocity(weights, z, math.pi / 2 - step * turn)
        z = math.cos(turn) * z - math.sin(turn) * v
    return ((z + 1) / 2).clamp(0, 1)


def judge(weights: Weights, images: Float[Tensor, "*B 64"]) -> Float[Tensor, "*B 11"]:
    """Log-probabilities of the ten digits, and of no digit."""
    hidden = F.linear(images, weights["judge.0.weight"], weights["judge.0.bias"]).relu()
    return F.linear(hidden, weights["judge.1.weight"], weights["judge.1.bias"]).log_softmax(-1)

"""Latents of a diffusion model ranked by a hidden taste: pictures are improved by saying which are better.

The last experiment of Tang, Rybin, Chang (2024): a point is the initial noise of a generator with a
deterministic sampler, and of the images that come out somebody says which are the best. The paper has Stable
Diffusion, 16,384 coordinates, and a person or CLIP. Here it is a model of handwritten digits with 64
coordinates that the project has trained, and a judge who wants to see one of the ten digits:

    f(z) = -log p(c | image(z))

c is the instance's own and hidden. A latent counts by its direction alone: it is brought to the length
sqrt(d) that Gaussian noise has, for the model has seen no other, and of longer ones makes worse images. The
judge knows an eleventh class, that an image is no digit, so that a badly drawn c is not to its taste either;
see :mod:`optenvs.envs.ranking.diffusion`. A person may rank in place of the judge:
:meth:`RankingLatent.images` are what to show, as the page of ``optenvs rank`` does, and ``rankings`` what was
said.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.random import Keys, integers, normal
from optenvs.data.weights import placed_weights

from .base import RankingOracle
from .diffusion import CLASSES, PIXELS, SHAPES, SIDE, generate, judge

BOX = 4.0
"""Half the width of the box of latents that an agent is told; the model knows Gaussian ones."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RankingLatent(RankingOracle):
    """Images are ranked by how well they show a hidden digit. Billed: the images shown, and the rankings.

    The start is Gaussian noise. Merit is f at the recommendation, at least 0; the metric ``probability`` is
    the judge's probability of the hidden digit there.

    Args:
        steps: evaluations of the network by the sampler, of which one image is made.
        digit: the hidden digit of all instances; ``None``: each draws its own.
        weights: a safetensors file with other networks of the same shapes, made by
            ``examples/train_diffusion.py``; ``None``: the shipped one.
        shown, ranked, recommend, noise, ...: see :class:`optenvs.envs.ranking.base.RankingOracle`.
    """

    steps: int = 15
    digit: int | None = None
    weights: str | None = None

    meanings: ClassVar[dict[str, str]] = {
        "probability": "what a classifier gives the wanted digit in the recommended picture",
    }

    painter = "optenvs.envs.ranking.picture:rounds"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number >= 1, got {self.steps!r}")
        digit = self.digit
        if digit is not None and (
            isinstance(digit, bool) or not isinstance(digit, int) or not 0 <= digit < CLASSES
        ):
            raise ValueError(f"digit: expected a whole number in 0 .. {CLASSES - 1} or None, got {digit!r}")
        super().__post_init__()
        _ = self.networks  # a file that does not fit is an error now, not at the first reset

    @property
    def networks(self) -> dict[str, Tensor]:
        """The tensors of the model and of the judge."""
        return placed_weights("diffusion", self.torch_device, self.torch_dtype, self.weights, SHAPES)

    @property
    def size(self) -> int:
        return PIXELS

    def sample(self, keys: Keys) -> Instance:
        digit = integers(keys, "digit", 1, CLASSES).squeeze(-1)
        if self.digit is not None:
            digit = torch.full_like(digit, self.digit)
        start = normal(keys, "latent", PIXELS, dtype=self.torch_dtype)
        return Instance(
            problem=self.problem(torch.full_like(start, -BOX), torch.full_like(start, BOX)),
            hidden=self.memory(digit, start),
            start=self.first_query(start),
            floor=torch.zeros_like(start[:, 0]),
        )

    def images(self, points: Float[Tensor, "B m 64"]) -> Float[Tensor, "B m 8 8"]:
        """The images of latents, to be shown: pixels from 0 (paper) to 1 (ink)."""
        # latents that an optimizer has made longer are noise that the model never saw, and its images break
        length = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
        typical = points * (math.sqrt(PIXELS) / length.clamp_min(1e-6))
        return generate(self.networks, typical, self.steps).unflatten(-1, (SIDE, SIDE))

    def values(self, state: State, points: Float[Tensor, "B m 64"]) -> Float[Tensor, "B m"]:
        taste = judge(self.networks, self.images(points).flatten(-2))
        digit = state.hidden.oracle[:, None, None].expand(*points.shape[:-1], 1)
        return -taste.gather(-1, digit).squeeze(-1)

    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        probability = (-answer.merit).exp()
        return dataclasses.replace(answer, metrics=answer.metrics | {"probability": probability})

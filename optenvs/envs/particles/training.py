"""Particles that are networks: consensus-based optimization of a loss on data.

Riedl, Klock, Geldhauser, Fornasier 2023 (arXiv 2306.09778) and the authors' code for MNIST; the loss of a
particle is a tenth of the mean cross-entropy on a minibatch, which all particles share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.inner import refuse_unused
from optenvs.core.random import Keys, normal
from optenvs.core.struct import static, struct
from optenvs.envs.training.base import Training
from optenvs.envs.training.environments import TrainDigits
from optenvs.envs.training.samples import PARTS
from optenvs.models import Model, Objective

from .base import Memory, Reply, Swarm

_SCORES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
_BEST = ("best_train_loss", "best_test_accuracy")


@struct
class Problem:
    """What an agent may know: the model as a pure function over a flat vector, and who recommends."""

    model: Model = static()
    recommend: str = static()
    fixed: Float[Tensor, "B F"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ParticlesTraining(Swarm):
    """N networks on one data set. One query: N parameter vectors, answered on one minibatch.

    Billed: for each network that has moved, or met another minibatch, a value and the minibatch's samples.

    Metrics: ``value`` (of the recommended network on the minibatch), ``loss`` (its cross-entropy), and at the
    start and at epoch ends ``train_loss``, ``train_accuracy``, ``test_loss``, ``test_accuracy`` of the
    recommended network on all data, ``best_train_loss`` (the least of the particles on all training data) and
    ``best_test_accuracy`` (of that particle).

    Args:
        training: data, model and minibatches: a :class:`~optenvs.envs.training.base.Training`, or in
            ``optenvs.make`` an id, whose keywords may then stand beside those of the swarm. Device and dtype
            are the swarm's.
        queries_per_minibatch: how many queries in a row meet the same minibatch.
        loss_scale: what the mean cross-entropy is multiplied by.
        start_std: the standard deviation of the particles' Gaussian start about 0.
        evaluation_period: queries between two measurements on all data, or the numbers of the queries that
            they follow; ``None`` for an epoch.
        budget: oracle calls of an episode; ``None`` for as many as the ``epochs`` of ``training`` take.
        particles, recommend, sees: see :class:`~optenvs.envs.particles.base.Swarm`.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The merit is the value.
    """

    training: Training = dataclasses.field(default_factory=TrainDigits, metadata={"environment": True})
    queries_per_minibatch: int = 10
    loss_scale: float = 0.1
    start_std: float = 1.0
    evaluation_period: Evaluations = None
    budget: int | Mapping[str, int] | None = None

    painter = "optenvs.envs.training.picture:training"
    meanings: ClassVar[dict[str, str]] = {
        "loss": "of the recommended network, on the minibatch of this query",
        "train_loss": "of the recommended network, on all training data",
        "test_loss": "likewise, on the test data",
        "train_accuracy": "share of the training data that it gets right",
        "test_accuracy": "share of the test data that it gets right",
        "best_train_loss": "the least of the particles, on all training data",
        "best_test_accuracy": "of that particle",
    }

    def __post_init__(self) -> None:
        if not isinstance(self.training, Training):
            raise TypeError(f"training: expected a Training, got {self.training!r}; optenvs.make takes an id")
        refuse_unused("training", self.training, self)
        number = self.queries_per_minibatch
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"queries_per_minibatch: expected a whole number >= 1, got {number!r}")
        for name in ("loss_scale", "start_std"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)!r}")
        super().__post_init__()

    @cached_property
    def data(self) -> Training:
        """The training environment on this device, in this precision."""
        made = self.training.replace(device=self.device, dtype=self.dtype, budget=None, reward="improvement")
        assert isinstance(made, Training)
        return made

    @property
    def network(self) -> Model:
        """The model as a pure function."""
        return self.training.network

    @property
    def objective(self) -> Objective:
        """Model and loss as pure functions."""
        return self.training.objective

    @property
    def size(self) -> int:
        return self.network.size

    @cached_property
    def numbers(self) -> int:
        return self.particles * self.training.numbers

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "swarm")

    @property
    def price(self) -> dict[str, int]:
        return {"value": 1, "samples": self.training.queried}

    @property
    def evaluations(self) -> Evaluations:
        return self._epoch if self.evaluation_period is None else self.evaluation_period

    @property
    def _epoch(self) -> int:
        return self.training.epoch * self.queries_per_minibatch

    @cached_property
    def limits(self) -> dict[str, int]:
        if self.budget is not None:
            return super().limits
        # one query more than updates: the points after the last update are answered too
        return {"value": self.particles * (self.training.epochs * self._epoch + 1)}

    def sample(self, keys: Keys) -> Instance:
        points = normal(keys, "particles", (self.particles, self.size), dtype=self.torch_dtype)
        points = self.start_std * points
        nothing = torch.full_like(points[:, 0, 0], torch.nan)
        order = self.data.draw_order(keys)
        return Instance(
            problem=Problem(
                model=self.network,
                recommend=self.recommend,
                fixed=self.network.draw_fixed(keys, self.torch_dtype),
            ),
            hidden=self.empty_memory(order, points, dict.fromkeys((*_SCORES, *_BEST), nothing)),
            start=self.first_query(points),
            floor=torch.zeros_like(nothing),
        )

    def repeated(self, state: State) -> Bool[Tensor, "B"]:
        if self.training.batch_size is None and self.training.augment == "none":
            return state.k > 0  # always all samples
        return state.k % self.queries_per_minibatch != 0

    def _loss(self, state: State, points: Float[Tensor, "B n d"]) -> Float[Tensor, "B n"]:
        """The scaled loss of ``n`` networks of each instance on its minibatch of this query."""
        order: Int32[Tensor, "B samples"] = state.hidden.oracle
        number = torch.div(state.k, self.queries_per_minibatch, rounding_mode="floor")
        part = self.data.batch(state.key, order, number)
        return self.loss_scale * self.data.objective.value(points, part, state.problem.fixed)

    def ask(self, state: State, points: Tensor) -> Reply:
        value = self._loss(state, points)
        return Reply(value, value)

    def judge(self, state: State, point: Tensor) -> Tensor:
        return self._loss(state, point.unsqueeze(1)).squeeze(1)

    def measure(
        self, state: State, points: Tensor, recommendation: Tensor, merit: Tensor
    ) -> dict[str, Tensor]:
        return {"loss": merit / self.loss_scale}

    def evaluate(self, state: State) -> State:
        memory: Memory = state.hidden
        data, count = self.data, self.particles
        keys, fixed = state.key, state.problem.fixed
        with torch.no_grad():
            chosen = memory.recommendation.detach()
            scores = [s for which in PARTS for s in data.score(chosen, keys, which, fixed)]
            points = state.observation["point"].detach()
            each = None if fixed is None else fixed.repeat_interleave(count, 0)
            losses, _ = data.score(points.flatten(0, 1), keys.repeat_interleave(count), "train", each)
            loss, index = losses.view(-1, count).min(1)
            best = points.gather(1, index[:, None, None].expand(-1, 1, self.size)).squeeze(1)
            _, accuracy = data.score(best, keys, "test", fixed)
        evaluation = dict(zip((*_SCORES, *_BEST), (*scores, loss, accuracy), strict=True))
        return dataclasses.replace(
            state,
            metrics=state.metrics | evaluation,
            hidden=dataclasses.replace(memory, evaluation=evaluation),
        )

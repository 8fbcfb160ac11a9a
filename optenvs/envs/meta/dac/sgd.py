"""AdamW's learning rate, epoch by epoch or minibatch by minibatch, while a network is trained.

The task of DACBench's ``SGDEnv`` (Eimer et al. 2021, arXiv 2105.08541; Loshchilov and Hutter 2019 for AdamW):

    m <- beta1 m + (1 - beta1) g,   v <- 0.999 v + 0.001 g^2,   c <- beta1 c from c = 1
    x <- (1 - lr w) x - lr m / (1 - c) / (sqrt(v / (1 - 0.999^t)) + 1e-8),        w = weight_decay

* State: weights, AdamW's memory, the order of the data.
* Query: the learning rate in [0, 0.05], and beta1 with ``beta1=True``.
* Answer: the mean loss of the minibatches that the action lasted, then loss and accuracy on validation data,
  which no minibatch meets. ``k`` is the step.
* Merit: the mean loss on the test data. By default the reward is 0 until the end of the episode, and then
  minus that. Where a loss is no finite number the episode has crashed: it ends there, at the last weights
  that had one, with the merit ``crash``, so that its reward is minus that.
* Bill: a step, and its minibatches. The query of ``reset`` asks the losses of as many minibatches and moves
  nothing.

An instance is a key: the first weights, the order of the data and the noise in its labels. Network and data
set are those of ``training``, any environment that trains a network; an episode's instance comes from the
environment's seed and from nothing else, where DACBench visits a list round robin, and its random scheme
draws from a generator without a seed. With beta1 steered, the correction of m is by the product of those that
were used; for a constant one that is torch's.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part
from optenvs.core.inner import refuse_unused
from optenvs.core.random import Keys, keys_from_seed, permutation
from optenvs.core.spaces import box
from optenvs.core.struct import replace, select, struct
from optenvs.envs.training.base import Problem, Training
from optenvs.envs.training.environments import TrainDigits
from optenvs.envs.training.order import draw_order, minibatch
from optenvs.models import Part

INTERVALS = ("epoch", "batch")
BETA1, MOST_BETA1, BETA2, EPS = 0.9, 0.999, 0.999, 1e-8
_PIECE = 500
"""Validation samples that go through the network at once: fixed, because batch normalisation sees them."""


@struct
class Course:
    """Where a training stands.

    Attributes:
        order: in which an instance meets its samples, ``(B, n)``.
        point: the weights, ``(B, D)``.
        mu, nu: averages of the gradient and of its square, ``(B, D)``.
        kept: the product of all beta1, ``(B, 1)``.
        count: updates so far, ``(B, 1)``.
        shown: loss, validation loss and accuracy as they were last finite, ``(B, 3)``.
    """

    order: Int32[Tensor, "B n"]
    point: Float[Tensor, "B D"]
    mu: Float[Tensor, "B D"]
    nu: Float[Tensor, "B D"]
    kept: Float[Tensor, "B 1"]
    count: Float[Tensor, "B 1"]
    shown: Float[Tensor, "B 3"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DacSgd(OptimizationEnv):
    """The training of a network by AdamW, whose learning rate is the action.

    Args:
        training: the network, its data and its loss: a training environment, or in ``optenvs.make`` an id,
            whose keywords (``widths``, ``batch_size``) may then stand beside these. What it has of budget,
            reward, tolerance, device and dtype is this environment's.
        interval: an action lasts an ``epoch`` or a ``batch``.
        validation: the share of the training samples that is set aside; which they are is the same for all.
        beta1: whether AdamW's beta1 is part of the action; else it is 0.9.
        most: the largest learning rate.
        weight_decay: w.
        crash: the merit of a training that has crashed.
        budget: as everywhere; a number counts actions, the query of ``reset`` as one.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    training: Training = dataclasses.field(
        default_factory=lambda: TrainDigits(), metadata={"environment": True}
    )
    interval: str = "epoch"
    validation: float = 0.2
    beta1: bool = False
    most: float = 0.05
    weight_decay: float = 0.01
    crash: float = 100.0
    budget: int | dict[str, int] | None = 101
    reward: str = "final_value"

    painter = "optenvs.envs.meta.dac.picture:training"
    meanings: ClassVar = {
        "action": "the learning rate, then beta1 where that is steered",
        "loss": "the mean loss of the minibatches of the last action, each before its update",
        "validation_loss": "the mean loss on the samples that are set aside",
        "accuracy": "the share of those that is got right",
        "test_loss": "the mean loss on the test data",
        "test_accuracy": "the share of the test data that is got right",
        "lr": "the last learning rate",
        "crashed": "1 where a loss was no finite number",
    }

    def __post_init__(self) -> None:
        if not isinstance(self.training, Training):
            raise TypeError(
                f"training: expected an environment that trains a network, got {self.training!r}; "
                "optenvs.make takes an id"
            )
        if self.training.batch_size is None:
            raise ValueError("training: batch_size: expected a number of samples, got None")
        if self.interval not in INTERVALS:
            raise ValueError(f"interval: expected one of {', '.join(INTERVALS)}, got {self.interval!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected a share in (0, 1), got {self.validation!r}")
        if not 0 < self.most < math.inf:
            raise ValueError(f"most: expected a number > 0, got {self.most!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: expected a number >= 0, got {self.weight_decay!r}")
        if not -math.inf < self.crash < math.inf:
            raise ValueError(f"crash: expected a finite number, got {self.crash!r}")
        used = {"oracle": "gradient", "epochs": Training.epochs, "evaluation_period": None}
        refuse_unused("training", self.training, self, used)
        if not self.aside or self.epoch < 1:
            raise ValueError(
                f"validation: {self.validation!r} of {self.training.train_count} samples sets {self.aside} "
                f"aside, and leaves {self.taught} for minibatches of {self.training.batch_size}"
            )
        super().__post_init__()

    @cached_property
    def inside(self) -> Training:
        """The training environment on this device, in this precision."""
        made = self.training.replace(device=self.device, dtype=self.dtype, reward="none", tolerance=None)
        assert isinstance(made, Training)
        return made

    @cached_property
    def _places(self) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "m"]]:
        """Which samples of the pool train, and which are set aside."""
        with torch.inference_mode(False):  # a cached tensor must be usable in any mode
            order = permutation(keys_from_seed(0, 1), "validation", self.training.train_count)[0]
            order = order.to(self.torch_device)
        return order[self.aside :], order[: self.aside]

    @property
    def aside(self) -> int:
        """Samples that are set aside."""
        return round(self.validation * self.training.train_count)

    @property
    def taught(self) -> int:
        """Samples that train."""
        return self.training.train_count - self.aside

    @property
    def epoch(self) -> int:
        """Minibatches of an epoch."""
        return self.taught // self.training.queried

    @property
    def lasts(self) -> int:
        """Minibatches of an action."""
        return self.epoch if self.interval == "epoch" else 1

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("step",)

    @property
    def bill(self) -> dict[str, int]:
        return {"step": 1, "gradient": self.lasts, "samples": self.lasts * self.training.queried}

    @cached_property
    def numbers(self) -> int:
        return max(super().numbers, self.training.numbers)

    def action_fields(self) -> spaces.Box:
        if not self.beta1:
            return box((1,), self.dtype, 0.0, self.most)
        return box((2,), self.dtype, np.zeros(2), np.array([self.most, MOST_BETA1]))

    def observation_fields(self) -> dict[str, spaces.Space]:
        one = box((1,), self.dtype)
        return {"loss": one, "validation_loss": one, "accuracy": box((1,), self.dtype, 0.0, 1.0)}

    def sample(self, keys: Keys) -> Instance:
        network = self.inside.network
        point = network.draw(keys, self.torch_dtype)
        one = torch.ones_like(point[:, :1])
        zero = torch.zeros_like(point)
        start = torch.zeros_like(one) if not self.beta1 else torch.cat((0 * one, BETA1 * one), 1)
        return Instance(
            problem=Problem(
                objective=self.inside.objective, fixed=network.draw_fixed(keys, self.torch_dtype)
            ),
            hidden=Course(
                order=draw_order(keys, self.taught),
                point=point,
                mu=zero,
                nu=zero,
                kept=one,
                count=0 * one,
                shown=torch.zeros_like(one).expand(-1, 3),
            ),
            start=start,
            floor=torch.zeros_like(point[:, 0]),
        )

    def answer(self, state: State, action: Action) -> Answer:
        action = only_part(self.name, action)
        before: Course = state.hidden
        lr, beta1 = action[:, :1], action[:, 1:] if self.beta1 else torch.full_like(action, BETA1)
        after, losses = before, []
        for turn in range(self.lasts):
            after, loss = self._updated(state, after, turn, lr, beta1)
            losses.append(loss)
        loss = torch.stack(losses).mean(0)
        if_moved = select(state.k > 0, after, before)  # the query of reset moves nothing
        fixed = state.problem.fixed
        objective, validation = self.inside.objective, self._validation
        held, accuracy = objective.score(if_moved.point, validation.pieces(_PIECE), fixed)
        test, test_accuracy = self.inside.score(if_moved.point, state.key, "test", fixed)
        finite = loss.isfinite() & held.isfinite() & test.isfinite()
        after = select(finite, if_moved, before)
        told = torch.stack((loss, held, accuracy), -1)
        shown = torch.where(finite.unsqueeze(-1), told, before.shown)
        names = ("loss", "validation_loss", "accuracy")
        seen: dict[str, Tensor] = dict(zip(names, shown.split(1, 1), strict=True))
        merit = torch.where(finite, test, self.crash)
        return Answer(
            observation=seen,
            merit=merit,
            metrics={name: value.squeeze(-1) for name, value in seen.items()}
            | {
                "test_loss": merit,
                "test_accuracy": torch.where(finite, test_accuracy, 0.0),
                "lr": lr.squeeze(-1),
                "crashed": (~finite).to(merit.dtype),
            },
            solved=None if self.tolerance is None else finite & (merit <= self.tolerance),
            hidden=replace(after, shown=shown),
            ended=~finite,
        )

    def _updated(
        self, state: State, at: Course, turn: int, lr: Float[Tensor, "B 1"], beta1: Float[Tensor, "B 1"]
    ) -> tuple[Course, Float[Tensor, "B"]]:
        """After one minibatch of the action, and the loss on it before."""
        query = state.k * self.lasts + turn
        index = self._places[0][minibatch(state.key, at.order, query, self.inside.queried)]
        part = self.inside.pool.at(state.key, index, query)
        loss, gradient = self.inside.objective.value_and_gradient(at.point, part, state.problem.fixed)
        mu = beta1 * at.mu + (1 - beta1) * gradient
        nu = BETA2 * at.nu + (1 - BETA2) * gradient.square()
        kept, count = beta1 * at.kept, at.count + 1
        corrected = nu / -torch.expm1(count * math.log(BETA2))
        zero = corrected == 0  # where a gradient was always 0 the root has no slope
        root = torch.where(zero, 0.0, torch.where(zero, 1.0, corrected).sqrt()) + EPS
        point = (1 - lr * self.weight_decay) * at.point - lr * mu / (1 - kept) / root
        return replace(at, point=point, mu=mu, nu=nu, kept=kept, count=count), loss

    @cached_property
    def _validation(self) -> Part:
        """The samples that are set aside, with the labels that they came with; all instances share them."""
        aside, pool = self._places[1], self.inside.pool
        with torch.inference_mode(False):
            return Part(pool.inputs[aside].unsqueeze(0), pool.targets[aside].unsqueeze(0))

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``point``: the weights, ``(B, D)``."""
        return {"point": state.hidden.point}

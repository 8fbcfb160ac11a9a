"""Training a network: the environment that papers on training dynamics share.

* State: the parameters asked last, the instance's data order and its labels' noise.
* Query: a flat parameter vector (``state.problem.model.layout`` names its slots).
* Answer: with ``oracle="gradient"`` the loss of the next minibatch and its gradient; with
  ``oracle="minibatch"`` the minibatch itself, for agents that see into the model (``problem.model``,
  ``problem.loss``).
* Bill: one gradient and one value (or one minibatch), and the samples of the minibatch. Loss and accuracy on
  all training and test data are in the metrics at the start and at epoch ends, unbilled.

With ``batch_size=None`` every query meets all training data, which the instances share and nobody copies.

B instances train B networks at once, each with its own initial weights, data order and label noise.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from optenvs import data
from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part
from optenvs.core.evaluations import Evaluations
from optenvs.core.random import Keys
from optenvs.core.spaces import box
from optenvs.core.struct import static, struct
from optenvs.models import MODELS, Model, Objective, Part, make_model
from optenvs.models.base import share

from .augmentation import check_augment
from .order import draw_order, minibatch
from .samples import Samples

ORACLES = ("gradient", "minibatch")
FULL_BATCH_PERIOD = 10
"""Queries between two evaluations of a full-batch problem, whose epoch is one query."""
FRESH_SAMPLES = 100
"""Samples of a :meth:`Training.fresh_loss`, as VeLO (Metz et al. 2022) judges its tasks."""
# An evaluation goes through the data in parts of a fixed size (batch normalisation sees the part, so its size
# may not depend on the batch of networks), and through the networks in groups that bound its memory.
_EVALUATION_SAMPLES = 500
_EVALUATION_ELEMENTS = 1 << 24


@struct
class Problem:
    """What an agent may know: the model as a pure function over a flat vector, and the loss.

    ``fixed`` are the slots that the model holds frozen, ``(B, F)``, or ``None``.
    """

    objective: Objective = static()
    fixed: Float[Tensor, "B F"] | None = None

    @property
    def model(self) -> Model:
        """The model as a pure function."""
        return self.objective.model

    def loss(self, point: Tensor, inputs: Tensor, targets: Tensor) -> Float[Tensor, "B"]:
        """Mean loss of ``point`` ``(B, D)`` on a minibatch ``(B, m, ...)``, ``(B, m)``."""
        return self.objective.value(point, Part(inputs, targets), self.fixed)


@struct
class Hidden:
    """The order in which an instance meets its samples (empty for a full batch), and the last evaluation."""

    order: Int32[Tensor, "B n"]
    evaluation: dict[str, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Training(OptimizationEnv):
    """A network on a data set.

    Args:
        model: ``logistic``, ``mlp``, ``cnn`` or ``resnet``.
        widths: hidden widths of an MLP, channels of a CNN, the base width of a ResNet.
        activation: ``relu``, ``lrelu`` (slope 0.1), ``elu``, ``selu``, ``tanh``, ``sigmoid``, ``gelu``.
        norm: normalisation of an MLP: ``none``, ``layer``, ``batch`` or ``after``.
        depth: of a ResNet: 18, 34 or 50.
        oracle: ``gradient`` or ``minibatch``.
        loss: ``cross_entropy``, ``squared`` (distance to the unit vector of the class) or ``hinge``.
        batch_size: samples of a minibatch; ``None`` for all, at every query.
        epochs: passes through the data that the budget pays for, where no ``budget`` is given;
            beside one they are refused.
        label_noise: share of training labels replaced by uniformly drawn ones, an instance its own.
        samples: use only the first so many training samples.
        standardise: of the inputs by training statistics: ``none``, ``scalar`` (one mean and deviation),
            ``channel``, ``feature``.
        augment: ``none``, or ``crop_flip``: training images are cropped at random out of a frame of 4 black
            pixels and mirrored with probability 1/2, anew at every query (see :mod:`.augmentation`). The
            metrics are of the images as they are, of both parts.
        evaluation_period: queries between two measurements of loss and accuracy on all data, or the numbers
            of the queries that they follow; ``None`` for an epoch, and for 10 queries with a full batch.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The merit is
            the minibatch loss.
    """

    model: str = "mlp"
    widths: tuple[int, ...] = (32,)
    activation: str = "relu"
    norm: str = "none"
    depth: int = 18
    oracle: str = "gradient"
    loss: str = "cross_entropy"
    batch_size: int | None = 32
    epochs: int = 5
    label_noise: float = 0.0
    samples: int | None = None
    standardise: str = "scalar"
    augment: str = "none"
    evaluation_period: Evaluations = None
    budget: int | Mapping[str, int] | None = None

    meanings: ClassVar[dict[str, str]] = {
        "action": "the parameters of the network, one vector",
        "point": "the parameters at which it was answered",
        "value": "the loss of the minibatch",
        "gradient": "the gradient of that loss",
        "inputs": "the inputs of the minibatch",
        "targets": "the labels of the minibatch",
        "labels": "the labels of the minibatch",
        "loss": "the loss of the minibatch",
        "train_loss": "the mean loss on all training data, as last measured",
        "test_loss": "likewise, on the test data",
        "train_accuracy": "share of the training data that is got right, as last measured",
        "test_accuracy": "share of the test data that is got right, as last measured",
    }
    painter = "optenvs.envs.training.picture:training"

    @abc.abstractmethod
    def dataset(self) -> data.Dataset:
        """The data, from its package or folder."""

    def __post_init__(self) -> None:
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}, got {self.oracle!r}")
        for name in ("batch_size", "epochs"):
            number = getattr(self, name)
            if name == "batch_size" and number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {number!r}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise: expected a share in [0, 1], got {self.label_noise!r}")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples: expected at least 1, got {self.samples}")
        available = len(self.dataset().train_y)
        if self.samples is not None and self.samples > available:
            raise ValueError(f"samples: expected at most the {available} of the set, got {self.samples}")
        if self.queried > self.train_count:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the {self.train_count} training samples"
            )
        self._refuse_unused()
        check_augment(self.augment, self._data.shape, self.standardise)
        _ = self.objective  # an unknown model or option is an error now, not at the first reset
        super().__post_init__()

    def replace(self, **changes: Any) -> OptimizationEnv:
        """A copy with other keywords; a ``budget`` takes the place of the ``epochs``."""
        if changes.get("budget") is not None:
            changes = {"epochs": type(self).epochs} | changes
        return super().replace(**changes)

    def _refuse_unused(self) -> None:
        """Refuse, by name, keywords that the others leave without effect."""
        for name, default, models in (
            ("depth", 18, ("resnet",)),
            ("norm", "none", ("mlp",)),
            ("activation", "relu", tuple(name for name in MODELS if name != "logistic")),
        ):
            if getattr(self, name) != default and self.model in MODELS and self.model not in models:
                came = getattr(self, name)
                raise ValueError(f"{name}: {came!r} would have no effect on model={self.model!r}")
        if self.model == "logistic" and self.widths not in ((), type(self).widths):
            raise ValueError(f"widths: {self.widths!r} would have no effect on model='logistic'")
        if self.budget is not None and self.epochs != type(self).epochs:
            raise ValueError(f"epochs: {self.epochs!r} would have no effect beside budget={self.budget!r}")

    @cached_property
    def _data(self) -> data.Dataset:
        return _first(self.dataset(), self.samples)

    @cached_property
    def _tensors(self) -> data.Tensors:
        return data.tensors(self._data, self.torch_device, self.torch_dtype, self.standardise)

    @property
    def train_count(self) -> int:
        """The number of training samples."""
        return len(self._data.train_y)

    @cached_property
    def network(self) -> Model:
        """The model as a pure function."""
        dataset = self._data
        return make_model(
            self.model,
            shape=dataset.shape,
            classes=dataset.classes,
            widths=self.widths,
            activation=self.activation,
            norm=self.norm,
            depth=self.depth,
        )

    @cached_property
    def objective(self) -> Objective:
        """Model and loss as pure functions of the parameters, on any :class:`~optenvs.models.Part`."""
        return Objective(self.network, self.loss)

    @cached_property
    def pool(self) -> Samples:
        """The samples as each instance has them."""
        tensors = self._tensors
        return Samples(
            inputs=tensors.train_x,
            targets=tensors.train_y,
            test_inputs=tensors.test_x,
            test_targets=tensors.test_y,
            classes=self._data.classes,
            noise=self.label_noise,
            augment=self.augment,
            black=tensors.zero,
        )

    @property
    def queried(self) -> int:
        """Samples that one query meets."""
        return self.train_count if self.batch_size is None else self.batch_size

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "gradient") if self.oracle == "gradient" else ("minibatch",)

    @property
    def bill(self) -> dict[str, int]:
        answers = {"gradient": 1, "value": 1} if self.oracle == "gradient" else {"minibatch": 1}
        return answers | {"samples": self.queried}

    @cached_property
    def limits(self) -> dict[str, int]:
        if self.budget is not None:
            return super().limits
        # one query more than updates: the point after the last update is answered too
        return {next(iter(self.bill)): self.epochs * self.epoch + 1}

    @property
    def epoch(self) -> int:
        """Queries of an epoch: whole minibatches that the training data hold."""
        return self.train_count // self.queried

    @property
    def evaluations(self) -> Evaluations:
        if self.evaluation_period is None:
            return FULL_BATCH_PERIOD if self.batch_size is None else self.epoch
        return self.evaluation_period

    @cached_property
    def numbers(self) -> int:
        # each weight meets each sample; eight such products take about as long as one number elsewhere
        return max(super().numbers, self.network.size * self.queried // 8)

    def action_fields(self) -> spaces.Box:
        return box((self.network.size,), self.dtype)

    def observation_fields(self) -> dict[str, spaces.Space]:
        size = (self.network.size,)
        fields: dict[str, spaces.Space] = {"point": box(size, self.dtype)}
        if self.oracle == "gradient":
            return fields | {"value": box((1,), self.dtype), "gradient": box(size, self.dtype)}
        dataset = self._data
        inputs = box((self.queried, *dataset.shape), self.dtype)
        targets = spaces.Box(0, dataset.classes - 1, (self.queried,), np.int64)
        return fields | {"inputs": inputs, "targets": targets}

    def sample(self, keys: Keys) -> Instance:
        start = self.network.draw(keys, self.torch_dtype)
        nothing = torch.full_like(start[:, 0], torch.nan)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        return Instance(
            problem=Problem(objective=self.objective, fixed=self.network.draw_fixed(keys, self.torch_dtype)),
            hidden=Hidden(
                order=self.draw_order(keys),
                evaluation=dict.fromkeys(names, nothing),
            ),
            start=start,
            floor=torch.zeros_like(nothing),
        )

    def draw_order(self, keys: Keys) -> Int32[Tensor, "B n"]:
        """The order in which each instance meets its samples; empty where it meets all at once."""
        if self.batch_size is None:
            return torch.zeros(len(keys), 0, dtype=torch.int32, device=keys.device)
        return draw_order(keys, self.train_count)

    def batch(self, keys: Keys, order: Int32[Tensor, "B n"], query: Int64[Tensor, "B"]) -> Part:
        """The samples that query number ``query`` meets."""
        if self.batch_size is not None:
            return self.pool.at(keys, minibatch(keys, order, query, self.batch_size), query)
        if self.augment == "none":
            return self.pool.part(keys, "train")
        everyone = torch.arange(self.train_count, device=keys.device)
        return self.pool.at(keys, everyone.expand(len(keys), -1), query)

    def answer(self, state: State, action: Action) -> Answer:
        action = only_part(self.name, action)
        hidden: Hidden = state.hidden
        problem: Problem = state.problem
        part = self.batch(state.key, hidden.order, state.k)
        observation = {"point": action}
        if self.oracle == "gradient":
            loss, gradient = self.objective.value_and_gradient(action, part, problem.fixed)
            observation |= {"value": loss.unsqueeze(-1), "gradient": gradient}
        else:
            loss = self.objective.value(action, part, problem.fixed)
            batch = len(action)
            observation |= {"inputs": share(part.inputs, batch), "targets": share(part.targets, batch)}
        solved = None if self.tolerance is None else loss <= self.tolerance
        metrics = {"loss": loss, **hidden.evaluation}
        return Answer(observation=observation, merit=loss, metrics=metrics, solved=solved)

    def fresh_loss(self, state: State, part: str) -> Float[Tensor, "B"]:
        """The loss at the last point on fresh samples, which no query meets; differentiable.

        Args:
            state: an episode.
            part: ``train`` (with the instance's own labels) or ``test``.
        """
        drawn = self.pool.drawn(state.key, part, FRESH_SAMPLES, state.k)
        return self.objective.value(state.observation["point"], drawn, state.problem.fixed)

    def evaluate(self, state: State) -> State:
        with torch.no_grad():
            point, fixed = state.observation["point"].detach(), state.problem.fixed
            train = self.score(point, state.key, "train", fixed)
            test = self.score(point, state.key, "test", fixed)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        evaluation = dict(zip(names, (*train, *test), strict=True))
        return dataclasses.replace(
            state,
            metrics=state.metrics | evaluation,
            hidden=dataclasses.replace(state.hidden, evaluation=evaluation),
        )

    def score(
        self, point: Float[Tensor, "B D"], keys: Keys, which: str, fixed: Tensor | None = None
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Loss and accuracy on all of ``train`` (with each instance's own labels) or ``test``."""
        scores = []
        for some, parts in self.pool.in_groups(keys, which, _EVALUATION_ELEMENTS, _EVALUATION_SAMPLES):
            own = None if fixed is None else fixed[some]
            scores.append(self.objective.score(point[some], parts, own))
        losses, accuracies = zip(*scores, strict=True)
        return torch.cat(losses), torch.cat(accuracies)


@lru_cache(maxsize=32)
def _first(dataset: data.Dataset, samples: int | None) -> data.Dataset:
    """The set with its first training samples only; one object, so that its tensors are shared."""
    if samples is None or samples >= len(dataset.train_y):
        return dataset
    return dataclasses.replace(dataset, train_x=dataset.train_x[:samples], train_y=dataset.train_y[:samples])

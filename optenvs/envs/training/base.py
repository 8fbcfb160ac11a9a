"""Training a network: the environment that papers on training dynamics share.

* State: the parameters asked last, the instance's data order and its labels' noise.
* Query: a flat parameter vector (``state.problem.model.layout`` names its slots).
* Answer: with ``oracle="gradient"`` the loss of the next minibatch and its gradient; with
  ``oracle="minibatch"`` the minibatch itself, for agents that see into the model (``problem.model``,
  ``problem.loss``).
* Bill: one gradient and one value (or one minibatch), and the samples of the minibatch. Loss and accuracy on
  all training and test data are in the metrics at the start and at epoch ends, unbilled.

B instances train B networks at once, each with its own initial weights, data order and label noise.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from optenvs import data
from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.random import Keys, uniform, uniform_at
from optenvs.core.spaces import box
from optenvs.core.struct import static, struct
from optenvs.models import Model, accuracy, cross_entropy, loss_and_gradient, make_model

from .augmentation import check_augment, crop_flip, draw_crop_flip
from .order import draw_order, minibatch

ORACLES = ("gradient", "minibatch")
# An evaluation goes through the data in parts of a fixed size (batch normalisation sees the part, so its size
# may not depend on the batch of networks), and through the networks in groups that bound its memory.
_EVALUATION_SAMPLES = 500
_EVALUATION_ELEMENTS = 1 << 24


@struct
class Problem:
    """What an agent may know: the model as a pure function over a flat vector, and the loss."""

    model: Model = static()

    def loss(self, point: Tensor, inputs: Tensor, targets: Tensor) -> Float[Tensor, "B"]:
        """Mean cross-entropy of ``point`` ``(B, D)`` on a minibatch ``(B, m, ...)``, ``(B, m)``."""
        return cross_entropy(self.model.apply(point, inputs), targets)


@struct
class Hidden:
    """The order in which an instance meets its samples, and the last evaluation."""

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
        batch_size: samples of a minibatch.
        epochs: passes through the data that the budget pays for, where no ``budget`` is given.
        label_noise: share of training labels replaced by uniformly drawn ones, an instance its own.
        samples: use only the first so many training samples.
        standardise: of the inputs by training statistics: ``none``, ``scalar`` (one mean and deviation),
            ``channel``, ``feature``.
        augment: ``none``, or ``crop_flip``: training images are cropped at random out of a frame of 4 black
            pixels and mirrored with probability 1/2, anew at every query (see :mod:`.augmentation`). The
            metrics are of the images as they are, of both parts.
        evaluation_period: queries between two measurements of loss and accuracy on all data, or the numbers
            of the queries that they follow; ``None`` for an epoch.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The merit is
            the minibatch loss.
    """

    model: str = "mlp"
    widths: tuple[int, ...] = (32,)
    activation: str = "relu"
    norm: str = "none"
    depth: int = 18
    oracle: str = "gradient"
    batch_size: int = 32
    epochs: int = 5
    label_noise: float = 0.0
    samples: int | None = None
    standardise: str = "scalar"
    augment: str = "none"
    evaluation_period: Evaluations = None
    budget: int | Mapping[str, int] | None = None

    painter = "optenvs.envs.training.picture:training"

    @abc.abstractmethod
    def dataset(self) -> data.Dataset:
        """The data, from its package or folder."""

    def __post_init__(self) -> None:
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}, got {self.oracle!r}")
        for name in ("batch_size", "epochs"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {number!r}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise: expected a share in [0, 1], got {self.label_noise!r}")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples: expected at least 1, got {self.samples}")
        if self.batch_size > self._train_count:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the {self._train_count} training samples"
            )
        check_augment(self.augment, self._data.shape, self.standardise)
        _ = self.network  # an unknown model or option is an error now, not at the first reset
        super().__post_init__()

    @cached_property
    def _data(self) -> data.Dataset:
        return _first(self.dataset(), self.samples)

    @cached_property
    def _tensors(self) -> data.Tensors:
        return data.tensors(self._data, self.torch_device, self.torch_dtype, self.standardise)

    @property
    def _train_count(self) -> int:
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

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "gradient") if self.oracle == "gradient" else ("minibatch",)

    @property
    def bill(self) -> dict[str, int]:
        answers = {"gradient": 1, "value": 1} if self.oracle == "gradient" else {"minibatch": 1}
        return answers | {"samples": self.batch_size}

    @cached_property
    def limits(self) -> dict[str, int]:
        if self.budget is not None:
            return super().limits
        # one query more than updates: the point after the last update is answered too
        return {next(iter(self.bill)): self.epochs * self.epoch + 1}

    @property
    def epoch(self) -> int:
        """Queries of an epoch: whole minibatches that the training data hold."""
        return self._train_count // self.batch_size

    @property
    def evaluations(self) -> Evaluations:
        return self.epoch if self.evaluation_period is None else self.evaluation_period

    @cached_property
    def numbers(self) -> int:
        # each weight meets each sample; eight such products take about as long as one number elsewhere
        return max(super().numbers, self.network.size * self.batch_size // 8)

    def action_fields(self) -> spaces.Box:
        return box((self.network.size,), self.dtype)

    def observation_fields(self) -> dict[str, spaces.Space]:
        size = (self.network.size,)
        fields: dict[str, spaces.Space] = {"point": box(size, self.dtype)}
        if self.oracle == "gradient":
            return fields | {"value": box((1,), self.dtype), "gradient": box(size, self.dtype)}
        dataset = self._data
        inputs = box((self.batch_size, *dataset.shape), self.dtype)
        targets = spaces.Box(0, dataset.classes - 1, (self.batch_size,), np.int64)
        return fields | {"inputs": inputs, "targets": targets}

    def sample(self, keys: Keys) -> Instance:
        def draw(name: str, shape: tuple[int, ...]) -> Tensor:
            return uniform(keys, f"weights {name}", shape, dtype=self.torch_dtype)

        start = self.network.initial(draw)
        nothing = torch.full_like(start[:, 0], torch.nan)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        return Instance(
            problem=Problem(model=self.network),
            hidden=Hidden(
                order=draw_order(keys, self._train_count),
                evaluation=dict.fromkeys(names, nothing),
            ),
            start=start,
            floor=torch.zeros_like(nothing),
        )

    def _targets(self, keys: Keys, index: Tensor) -> Tensor:
        """The labels of samples ``index`` ``(B, m)`` as each instance has them."""
        clean = self._tensors.train_y[index]
        if not self.label_noise:
            return clean
        chosen = uniform_at(keys, "label noise", index) < self.label_noise
        wrong = uniform_at(keys, "wrong label", index) * self._data.classes
        return torch.where(chosen, wrong.to(torch.int64), clean)

    def _inputs(self, state: State, index: Int64[Tensor, "B m"]) -> Tensor:
        """Samples ``index`` ``(B, m)`` as they look at this query, ``(B, m, *shape)``."""
        if self.augment == "crop_flip":
            drawn = draw_crop_flip(state.key, state.k, self.batch_size)
            return crop_flip(self._tensors.train_x, index, *drawn, self._tensors.zero)
        # index_select copies whole samples, in half the time of indexing by two dimensions
        inputs = self._tensors.train_x.index_select(0, index.flatten())
        return inputs.view(*index.shape, *inputs.shape[1:])

    def answer(self, state: State, action: Action) -> Answer:
        assert isinstance(action, Tensor)
        hidden: Hidden = state.hidden
        index = minibatch(state.key, hidden.order, state.k, self.batch_size)
        inputs = self._inputs(state, index)
        targets = self._targets(state.key, index)
        observation = {"point": action}
        if self.oracle == "gradient":
            loss, gradient = loss_and_gradient(self.network, action, inputs, targets)
            observation |= {"value": loss.unsqueeze(-1), "gradient": gradient}
        else:
            loss = cross_entropy(self.network.apply(action, inputs), targets)
            observation |= {"inputs": inputs, "targets": targets}
        solved = None if self.tolerance is None else loss <= self.tolerance
        metrics = {"loss": loss, **hidden.evaluation}
        return Answer(observation=observation, merit=loss, metrics=metrics, solved=solved)

    def evaluate(self, state: State) -> State:
        with torch.no_grad():
            point = state.observation["point"].detach()
            train = self._score(point, self._tensors.train_x, state.key)
            test = self._score(point, self._tensors.test_x, None)
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        evaluation = dict(zip(names, (*train, *test), strict=True))
        return dataclasses.replace(
            state,
            metrics=state.metrics | evaluation,
            hidden=dataclasses.replace(state.hidden, evaluation=evaluation),
        )

    def _score(self, point: Tensor, inputs: Tensor, keys: Keys | None) -> tuple[Tensor, Tensor]:
        """Loss and accuracy on all of ``inputs``; with ``keys`` on the instances' own training labels."""
        group = max(1, _EVALUATION_ELEMENTS // (_EVALUATION_SAMPLES * inputs[0].numel()))
        scores = []
        for first in range(0, len(point), group):
            rows = slice(first, first + group)
            scores.append(self._score_group(point[rows], inputs, None if keys is None else keys[rows]))
        losses, accuracies = zip(*scores, strict=True)
        return torch.cat(losses), torch.cat(accuracies)

    def _score_group(self, point: Tensor, inputs: Tensor, keys: Keys | None) -> tuple[Tensor, Tensor]:
        loss = torch.zeros_like(point[:, 0])
        correct = torch.zeros_like(loss)
        for first in range(0, len(inputs), _EVALUATION_SAMPLES):
            part = inputs[first : first + _EVALUATION_SAMPLES]
            index = torch.arange(first, first + len(part), device=point.device)
            index = index.expand(len(point), -1)
            targets = self._tensors.test_y[index] if keys is None else self._targets(keys, index)
            logits = self.network.apply(point, part.unsqueeze(0))
            loss += cross_entropy(logits, targets) * len(part)
            correct += accuracy(logits, targets) * len(part)
        return loss / len(inputs), correct / len(inputs)


@lru_cache(maxsize=32)
def _first(dataset: data.Dataset, samples: int | None) -> data.Dataset:
    """The set with its first training samples only; one object, so that its tensors are shared."""
    if samples is None or samples >= len(dataset.train_y):
        return dataset
    return dataclasses.replace(dataset, train_x=dataset.train_x[:samples], train_y=dataset.train_y[:samples])

"""Grokking: a network first memorises the pairs of a group's product, and generalises much later.

* State: the parameters asked last, the instance's own training pairs, and its last evaluation.
* Query: a flat parameter vector (``state.problem.model.layout`` names its slots).
* Answer: the loss on all training pairs and its gradient; with ``oracle="minibatch"`` the pairs themselves,
  for agents that see into the model (``problem.model``, ``problem.objective``).
* Bill: one gradient and one value (or one minibatch): an epoch.

Tian, "Provable Scaling Laws of Feature Emergence from Learning Dynamics of Grokking" (arXiv 2509.21519).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Answer, State
from optenvs.core.errors import only_part
from optenvs.core.given import check_choice, check_finite, check_whole
from optenvs.core.spaces import box

from .base import Arithmetic
from .expressions import NAMES
from .network import PRODUCT, GroupNetwork
from .objective import LOSSES, GroupObjective

ORACLES = ("gradient", "minibatch")


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupGrokking(Arithmetic):
    """A network F = sigma(W x), outputs V F, on a group's product. One query: all parameters, an epoch.

    Args:
        operands: how many elements are multiplied.
        expression: in place of the product: an expression modulo M of the operands x, y, z, ..., such as
            ``x^2+x*y+y^2``; the group is then a ``Zm``, whose frequencies the purity means.
        activation: ``square``, ``relu``, ``silu``, ``relu_squared``, ``tanh``; or ``product`` of the
            operands' embeddings, in place of a function of their sum.
        layers: blocks F <- sigma(F + A F) after the hidden layer.
        residual: whether a block adds its input.
        complex_weights: W and V are complex; outputs are real parts.
        multiplier: of the outputs.
        v_init: a factor on the first V; 0 is the paper's zero initialisation. W and V begin as
            ``torch.nn.Linear`` does.
        loss: ``code`` (squared, centred over classes, the mean over pairs), ``theory`` (squared, centred over
            pairs, half the sum) or ``nll`` (cross-entropy).
        decay: eta, of eta/2 |V|^2 in the loss. Weight decay as optimizers have it is the agent's: coupled
            decay wd under ``code`` is eta = n wd / 2 under ``theory``.
        oracle: ``gradient`` or ``minibatch``.
        group, width, fraction, ratio, data, goal, evaluation_period: see
            :class:`~optenvs.envs.grokking.base.Arithmetic`.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The merit is the
            training loss.
    """

    operands: int = 2  # type: ignore[assignment]  # a field here, what is always so elsewhere
    expression: str | None = None  # type: ignore[assignment]
    layers: int = 0
    residual: bool = True
    complex_weights: bool = False
    multiplier: float = 1.0
    v_init: float = 1.0
    loss: str = "code"
    decay: float = 0.0
    oracle: str = "gradient"

    meanings: ClassVar[dict[str, str]] = {
        "action": "W and V, one vector",
        "inputs": "the training pairs: numbers of group elements",
        "targets": "the number of each pair's product",
    }

    def __post_init__(self) -> None:
        check_choice("oracle", self.oracle, ORACLES)
        check_choice("loss", self.loss, LOSSES)
        check_whole("layers", self.layers, 0)
        for name in ("residual", "complex_weights"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        check_finite("multiplier", self.multiplier)
        for name in ("v_init", "decay"):
            check_finite(name, getattr(self, name), 0.0)
        if not self.multiplier:
            raise ValueError("multiplier: expected a number other than 0, got 0")
        self._refuse_unused()
        super().__post_init__()

    def _refuse_unused(self) -> None:
        """Refuse, by name, what the others leave without effect or without meaning."""
        if not self.residual and not self.layers:
            raise ValueError("residual: False would have no effect without layers")
        if self.complex_weights and (self.layers or self.activation not in ("square", PRODUCT)):
            raise ValueError("complex_weights: expected activation='square' or 'product' and no layers")
        if self.layers and self.activation == PRODUCT:
            raise ValueError("layers: expected an activation that is a function, got 'product'")
        if self.expression is not None:
            if not (isinstance(self.group, str) and self.group[:1] == "Z" and self.group[1:].isdigit()):
                raise ValueError(f"expression: needs a group Zm, whose m is the modulus, got {self.group!r}")
            if isinstance(self.operands, int) and self.operands > len(NAMES):
                raise ValueError(
                    f"operands: expected at most {len(NAMES)} beside an expression, got {self.operands}"
                )

    @cached_property
    def network(self) -> GroupNetwork:  # type: ignore[override]
        """The model as a pure function."""
        return GroupNetwork(
            (self.operands,),
            self.algebra.order,
            self.width,
            activation=self.activation,
            layers=self.layers,
            residual=self.residual,
            complex_weights=self.complex_weights,
            multiplier=float(self.multiplier),
            v_init=float(self.v_init),
        )

    @cached_property
    def objective(self) -> GroupObjective:  # type: ignore[override]
        """Model and loss as pure functions of the parameters."""
        return GroupObjective(self.network, self.loss, decay=float(self.decay))

    @property
    def oracles(self) -> tuple[str, ...]:
        return super().oracles if self.oracle == "gradient" else ("minibatch",)

    @property
    def bill(self) -> dict[str, int]:
        return super().bill if self.oracle == "gradient" else {"minibatch": 1}

    def observation_fields(self) -> dict[str, spaces.Space]:
        if self.oracle == "gradient":
            return super().observation_fields()
        most, count = self.algebra.order - 1, self.train_count
        return {
            "point": box((self.network.size,), self.dtype),
            "inputs": spaces.Box(0, most, (count, self.operands), np.int64),
            "targets": spaces.Box(0, most, (count,), np.int64),
        }

    def answer(self, state: State, action: Action) -> Answer:
        point = only_part(self.name, action)
        part = self.part(state.hidden.train)
        observation = {"point": point}
        if self.oracle == "gradient":
            loss, gradient = self.objective.value_and_gradient(point, part)
            observation |= {"value": loss.unsqueeze(-1), "gradient": gradient}
        else:
            loss = self.objective.value(point, part)
            observation |= {"inputs": part.inputs, "targets": part.targets}
        return Answer(
            observation=observation,
            merit=loss,
            metrics={"loss": loss, **state.hidden.evaluation},
            solved=self.solved(state, loss),
        )

    def whole(self, state: State, some: slice) -> tuple[Tensor, None]:
        return state.observation["point"][some], None

"""Learners whose policy and critic are tables: one column a state, and one for the time.

A policy's logits in state s at time t are W[:, s] + 0.001 t W[:, last], and so are the critic's: a linear
network without bias on the tabular observation, whose dense unit vectors are never made. Gradients by the
logits are written out, so that a population needs no graph; all of it is differentiable nonetheless. Tables
are zero at birth. Optimiser: gradients are clipped to a norm, of policy and critic apart, and then multiplied
by a rate.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import static, struct

TINY = 1e-8
"""What groove adds to a probability."""

Rate = float | Float[Tensor, "L"]


@struct
class Learner:
    """Tables of L learners, C 2^K + 1 columns each (states last: sums over a few outputs are fast that way).

    Attributes:
        actor: of the policy.
        critic: of m categories, or of one value.
    """

    actor: Float[Tensor, "*L 5 s"]
    critic: Float[Tensor, "*L m s"]


@struct
class Window:
    """What the E workers of a learner met in T steps, side by side: place ``t * E + e`` is worker e's step t.

    Attributes:
        state: the state's number before each step, and then that after the last, ``(L, (T + 1) E)``.
        time: 0.001 times the time, likewise.
        action: of each step, ``(L, T E)``.
        reward: of each step.
        over: 1 where the episode ended with the step, else 0; the next state is then of the next episode.
        workers: E.
    """

    state: Int64[Tensor, "L n1"]
    time: Float[Tensor, "L n1"]
    action: Int64[Tensor, "L n"]
    reward: Float[Tensor, "L n"]
    over: Float[Tensor, "L n"]
    workers: int = static()

    @property
    def count(self) -> int:
        """T E."""
        return self.action.shape[1]

    @property
    def before(self) -> tuple[Int64[Tensor, "L n"], Float[Tensor, "L n"]]:
        """State and time before each step."""
        return self.state[:, : self.count], self.time[:, : self.count]


def look(
    table: Float[Tensor, "L o s"], state: Int64[Tensor, "L n"], time: Float[Tensor, "L n"]
) -> Float[Tensor, "L o n"]:
    """What the table says in these states at these times."""
    found = table.gather(2, state.unsqueeze(1).expand(-1, table.shape[1], -1))
    return torch.addcmul(found, table[:, :, -1:], time.unsqueeze(1))


def gathered(
    table: Float[Tensor, "L o s"],
    state: Int64[Tensor, "L n"],
    time: Float[Tensor, "L n"],
    delta: Float[Tensor, "L o n"],
) -> Float[Tensor, "L o s"]:
    """The gradient by the table, where ``delta`` is that by what it said."""
    place = state.unsqueeze(1).expand_as(delta)
    slopes = torch.zeros_like(table[:, :, :-1]).scatter_add(2, place, delta)
    return torch.cat((slopes, (delta * time.unsqueeze(1)).sum(2, keepdim=True)), 2)


def descend(
    table: Float[Tensor, "L o s"],
    slope: Float[Tensor, "L o s"],
    rate: Rate,
    clip: float,
    alive: Bool[Tensor, "L"] | None = None,
) -> Float[Tensor, "L o s"]:
    """A step of gradient descent: the gradient is clipped to a norm, then multiplied by the rate.

    Who is not ``alive`` stays.
    """
    # a norm has no slope at 0
    square = slope.square().sum((1, 2))
    norm = torch.where(square > 0, square, 1.0).sqrt()
    factor = torch.where(norm > clip, clip / norm, 1.0) * rate
    moved = table - factor[:, None, None] * slope
    return moved if alive is None else torch.where(alive[:, None, None], moved, table)


def entropy(logits: Float[Tensor, "L o n"]) -> Float[Tensor, "L"]:
    """The mean entropy of the distributions, in nats."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean(1)

"""Agents as pairs of pure functions ``(init, update)`` over trees of tensors, as optax has them, and back.

``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``, where ``params + updates``
are the next parameters. Nothing is written in place: a pair can be differentiated and mapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree

from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.struct import struct

from ..core import Agent, Observation
from .to_torch import check_agent, next_point, problem_of

Tree = Any


class Pair(NamedTuple):
    """The two functions of a gradient transformation."""

    init: Callable[[Tree], Any]
    update: Callable[..., tuple[Tree, Any]]


@struct
class PairState:
    """``memory``: the agent's, ``None`` before it has seen a gradient; ``k``: updates so far, ``(1, 1)``."""

    memory: Any
    k: Tensor


def to_pair(agent: Agent, *, steps: int | None = None, seed: int = 0) -> Pair:
    """An agent as ``(init, update)`` over a tree (dicts, lists, tuples, structs) of tensors of one dtype.

    ``update(grads, state, params, value=None)`` needs the parameters, and the loss where the agent reads it.

    Args:
        agent: one that needs no more than gradients and values.
        steps: N, for agents and schedules that read it; ``None``: unknown.
        seed: of what the agent draws.

    Raises:
        OracleMismatch: the agent needs another oracle. TypeError: ``agent`` is none.
    """
    check_agent(agent, steps)

    def init(params: Tree) -> PairState:
        point, _ = _flat(params)
        return PairState(memory=None, k=torch.zeros_like(point[:, :1]))

    def update(grads: Tree, state: PairState, params: Tree, value: Any = None) -> tuple[Tree, PairState]:
        point, form = _flat(params)
        gradient, given = _flat(grads)
        if given != form:
            raise ValueError(f"grads: expected a tree like that of params, {form}, got {given}")
        horizon = math.inf if steps is None else steps
        seen: Observation = {"point": point, "gradient": gradient, "k": state.k}
        seen["N"] = torch.full_like(state.k, horizon)
        if value is not None:
            seen["value"] = torch.as_tensor(value).to(point).reshape(1, 1)
        elif "value" in agent.needs:
            raise TypeError(f"value: agent {type(agent).__name__} reads the loss; update(..., value=loss)")
        memory = state.memory
        if memory is None:
            memory = agent.init(_problem(params), seen, keys_from_seed(seed, 1, point.device))
        action, memory = next_point(agent, memory, seen)
        return _tree(action - point, params), PairState(memory=memory, k=state.k + 1)

    return Pair(init, update)


@dataclass(frozen=True, eq=False)
class PairAgent(Agent):
    """See :func:`from_pair`."""

    pair: Any

    needs = ("gradient",)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Any:
        return torch.func.vmap(self.pair[0])(observation["point"])

    def act(self, state: Any, observation: Observation) -> tuple[Tensor, Any]:
        point = observation["point"]
        updates, after = torch.func.vmap(self.pair[1])(observation["gradient"], state, point)
        return point + updates, after


def from_pair(init: Callable[[Tensor], Any], update: Callable[..., tuple[Tensor, Any]]) -> PairAgent:
    """The agent of a gradient transformation: ``B`` instances at once, by ``torch.func.vmap``.

    Args:
        init: from parameters ``(n,)`` to a state, a tree of tensors.
        update: ``(gradient, state, parameters) -> (updates, state)``, pure.

    Raises:
        TypeError: one of them cannot be called.
    """
    for name, function in (("init", init), ("update", update)):
        if not callable(function):
            raise TypeError(f"{name}: expected a callable, got {type(function).__name__}")
    return PairAgent((init, update))


def _flat(tree: Tree) -> tuple[Tensor, Any]:
    """The tensors of a tree side by side, ``(1, n)``, and its form.

    Raises:
        TypeError: a leaf is no tensor, or they differ in dtype.
    """
    leaves, form = _pytree.tree_flatten(tree)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise TypeError(f"params: expected a tree of tensors, got {[type(leaf).__name__ for leaf in leaves]}")
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) > 1:
        raise TypeError(f"params: expected tensors of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    return torch.cat([leaf.reshape(-1) for leaf in leaves]).unsqueeze(0), form


def _tree(point: Tensor, like: Tree) -> Tree:
    """A point ``(1, n)`` in the form of a tree."""
    leaves, form = _pytree.tree_flatten(like)
    pieces = point[0].split([leaf.numel() for leaf in leaves])
    return _pytree.tree_unflatten(
        [piece.view(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)], form
    )


def _problem(params: Tree) -> Any:
    leaves, _ = _pytree.tree_flatten(params)
    return problem_of((str(i), leaf) for i, leaf in enumerate(leaves))

"""A user's own functions at the nodes of a network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Instance
from optenvs.core.errors import cause
from optenvs.core.given import check_settings
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.struct import tree_map

from .base import Network
from .parts import Draw, Functions

NodeFunction = Callable[..., Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkFunctions(Network):
    """Functions of the user's; :func:`network_from_functions` makes one and says what the fields mean."""

    functions: NodeFunction | tuple[NodeFunction, ...]
    data: Any = None
    mu: float
    L: float
    solution: Any = None

    def __post_init__(self) -> None:
        if not 0 < self.mu <= self.L < math.inf:
            raise ValueError(f"mu, L: expected 0 < mu <= L, got {self.mu!r} and {self.L!r}")
        if self.oracle == "conjugate":
            raise ValueError("oracle: nothing is known of the conjugates; expected oracle='gradient'")
        if self.tolerance is not None and self.solution is None:
            raise ValueError("tolerance: expected a solution with it, from which the distance is taken")
        self._check_functions()
        super().__post_init__()
        self._try()

    def _check_functions(self) -> None:
        count, each = self.agents, self.functions
        if isinstance(each, tuple):
            if self.data is not None:
                raise ValueError("data: expected one function for all nodes with it, got a list of functions")
            if len(each) != count or not all(map(callable, each)):
                raise ValueError(f"functions: expected one for each of the {count} nodes, got {len(each)}")
        elif self.data is None:
            raise ValueError("data: expected tensors (n, ...) beside one function for all nodes, got None")
        for leaf in _leaves(self.data):
            if not isinstance(leaf, Tensor) or leaf.shape[:1] != (count,):
                came = tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
                raise ValueError(f"data: expected tensors of leading dimension {count}, got {came}")

    def _try(self) -> None:
        """Ask every node once, so that a function that does not fit is an error now."""
        keys = keys_from_seed(0, 2, self.torch_device)
        draw = self.draw(keys)
        point = self.begin(keys) if self._given_start is None else self._given_start.repeat(2, 1, 1)
        try:
            values = self.values(draw.functions.data, point)
            slopes = self._over_nodes(torch.func.grad, draw.functions.data, point)
        except Exception as error:
            raise ValueError(
                f"functions: cannot be called on {self.dtype} tensors of shape {(self.width,)} and "
                f"differentiated: {cause(error)}"
            ) from error
        expected = {"values": (2, self.agents), "gradients": tuple(point.shape)}
        for what, got in (("values", values), ("gradients", slopes)):
            if tuple(got.shape) != expected[what]:
                raise ValueError(
                    f"functions: expected scalars, with {what} of shape {expected[what]} for 2 instances, "
                    f"got {tuple(got.shape)}"
                )

    @property
    def merit_name(self) -> str:  # type: ignore[override]
        """The distance to the solution, or without one the mean of the functions."""
        return "value" if self.solution is None else "error"

    @property
    def bounded_below(self) -> bool:
        return self.solution is not None

    @property
    def noisy(self) -> bool:
        return False

    @cached_property
    def _solution(self) -> Tensor | None:
        if self.solution is None:
            return None
        point = torch.as_tensor(self.solution, dtype=self.torch_dtype, device=self.torch_device)
        if tuple(point.shape) != (self.width,):
            raise ValueError(f"solution: expected {self.width} numbers, got {self.solution!r}")
        return point

    def _placed(self, leaf: Tensor) -> Tensor:
        return leaf.to(self.torch_device, self.torch_dtype if leaf.is_floating_point() else None)

    @cached_property
    def _data(self) -> Any:
        index = torch.arange(self.agents, device=self.torch_device)
        return {"node": index, "own": None if self.data is None else tree_map(self._placed, self.data)}

    def draw(self, keys: Keys) -> Draw:
        batch = len(keys)
        constants = torch.ones(batch, dtype=self.torch_dtype, device=keys.device)
        solution = None if self._solution is None else self._solution.expand(batch, -1)
        data = tree_map(lambda leaf: leaf.expand(batch, *leaf.shape), self._data)
        return Draw(
            functions=Functions(data=data, solution=solution), mu=self.mu * constants, L=self.L * constants
        )

    def sample(self, keys: Keys) -> Instance:
        instance = super().sample(keys)
        return instance if self.solution is not None else dataclasses.replace(instance, floor=None)

    def values(self, data: Any, x: Float[Tensor, "B N d"]) -> Float[Tensor, "B N"]:
        """The value of each node's function at its point."""
        return self._over_nodes(lambda function: function, data, x)

    def gradient(self, data: Any, x: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        return self._over_nodes(torch.func.grad, data, x)

    def _over_nodes(self, made: Callable[[NodeFunction], NodeFunction], data: Any, x: Tensor) -> Tensor:
        """What is made of each node's function, at its point; a list of functions is gone through in turn."""
        vmap, each = torch.func.vmap, self.functions
        if not isinstance(each, tuple):
            return vmap(vmap(made(each)))(x, data["own"])
        # a process of its own has one node, and there its number may be looked at
        mine = each if x.shape[1] == len(each) else [each[int(i)] for i in data["node"][0]]
        return torch.stack([vmap(made(f))(x[:, i]) for i, f in enumerate(mine)], 1)

    def conjugate(self, data: Any, x: Float[Tensor, "B N d"]) -> Tensor:
        raise NotImplementedError("nothing is known of the conjugates")

    def measure(self, functions: Functions, x: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """The mean of the functions at the mean of the iterates; its gap to that of the solution."""
        value = self._mean(functions, x)
        if functions.solution is None:
            return {"value": value}
        return {"value": value, "gap": value - self._mean(functions, functions.solution)}

    def _mean(self, functions: Functions, x: Float[Tensor, "B d"]) -> Float[Tensor, "B"]:
        points = x.unsqueeze(1).expand(-1, self.agents, -1)
        return self.values(functions.data, points).mean(1)


def network_from_functions(
    functions: NodeFunction | Sequence[NodeFunction],
    *,
    dim: int,
    mu: float,
    L: float,
    data: Any = None,
    solution: Any = None,
    graph: Any = "cycle",
    nodes: int | None = None,
    **keywords: Any,
) -> NetworkFunctions:
    """A network whose nodes own the user's functions: clocks, ledger and every face are inherited.

    The functions are torch's, of one point ``(dim,)``, and are vectorised over instances by
    ``torch.func.vmap``. One that all nodes share sees its node's data, and runs over all nodes at once::

        >>> import torch, optenvs, agents
        >>> targets = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        >>> def pull(x, target):
        ...     return ((x - target) ** 2).sum() + torch.log(torch.cosh(x - target)).sum()
        >>> env = optenvs.network_from_functions(pull, data=targets, dim=2, mu=2.0, L=3.0, t_max=200.0)
        >>> run = optenvs.rollout(env, agents.DADAO(), seed=0)
        >>> float(run.metrics["consensus"][-1]) < 1e-6
        True

    A list has a function a node, gone through in turn, and may name the solution::

        >>> bowls = [lambda x, a=a: a * ((x - a) ** 2).sum() / 2 for a in (1.0, 2.0, 3.0)]
        >>> events = [(0.5, 0), (1.0, 0, 1), (1.5, 2), (2.0, 1, 2)]
        >>> env = optenvs.network_from_functions(bowls, dim=1, mu=1.0, L=3.0, graph=[(0, 1), (1, 2)],
        ...     solution=[14 / 6], start=[0.0], events=events)
        >>> run = optenvs.rollout(env, agents.ADPSGD(), seed=0)
        >>> {kind: int(count[-1]) for kind, count in run.calls.items()}
        {'gradient': 2, 'exchange': 2}

    In processes of their own (``spawn_processes``) a list goes to every node, since it is part of the
    environment; of ``data`` each gets its row only.

    Args:
        functions: one a node, ``f(x) -> scalar``; or one for all, ``f(x, own) -> scalar``, with ``data``.
        dim: the number of coordinates of a point.
        mu: what the agents are told of the functions' strong convexity, > 0.
        L: what they are told of their smoothness, at least ``mu``.
        data: a tensor, or a dict of tensors, of leading dimension n; those of floats get the dtype of the
            environment.
        solution: the minimiser of the sum, where it is known: then the merit is ``error``, the mean squared
            distance to it, and ``gap`` is measured; else the merit is ``value``, the mean of the functions at
            the mean of the iterates.
        graph: see :class:`optenvs.envs.network.base.Network`.
        nodes: how many, by default as many as there are functions, or rows of data.
        **keywords: those of :class:`optenvs.envs.network.base.Network`: ``start``, ``events``, ``clock``,
            ``rates``, ``t_max``, ...

    Raises:
        ValueError: functions, data or graph that do not fit each other; functions that cannot be called on
            points of the environment's dtype, with the cause.
    """
    each: Any = functions if callable(functions) else tuple(functions)
    if nodes is None:
        first = next(iter(_leaves(data)), None)
        if isinstance(each, tuple):
            nodes = len(each)
        elif isinstance(first, Tensor) and first.ndim:
            nodes = len(first)
    check_settings("network_from_functions", keywords, NetworkFunctions)
    return NetworkFunctions(
        functions=each,
        data=data,
        dim=dim,
        mu=mu,
        L=L,
        solution=solution,
        graph=graph,
        nodes=nodes,
        **keywords,
    )


def _leaves(data: Any) -> list[Any]:
    if isinstance(data, dict):
        return [leaf for value in data.values() for leaf in _leaves(value)]
    return [] if data is None else [data]

"""The way back: an environment as a billed callable, for ``scipy.optimize.minimize`` and its like."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from optenvs.core.env import OptimizationEnv, State
from optenvs.core.errors import BudgetSpent
from optenvs.core.random import keys_from_seed
from optenvs.core.spaces import as_action, check_action
from optenvs.core.struct import Named
from optenvs.core.threads import Threads

from .seeding import instance_keys


class BilledFunction:
    """One instance as ``f(x) -> float``, at the same accounting as an agent's queries.

    A solver that asks value and gradient of one point apart is billed one query, as an agent would be. So is
    one that asks a point which rounds to the query before; a warning says so once. A value that is no number
    is returned as it is, and the next point can be asked. There is one bill: copies, and other processes,
    are refused.

    Example:
        >>> f = optenvs.as_function(core, seed=0)                          # doctest: +SKIP
        >>> scipy.optimize.minimize(f, f.start, jac=f.gradient)            # doctest: +SKIP
        >>> f.calls["gradient"], f.metrics["gap"]                          # doctest: +SKIP

    Attributes:
        start: the starting point, float64 ``(n,)``; its query is the first of the bill.
        bounds: pairs ``(low, high)`` where the problem names a search domain, else ``None``.
        history: the state after each billed query.
    """

    def __init__(self, core: OptimizationEnv, seed: int = 0, key: int | None = None) -> None:
        if not isinstance(core.action_space, spaces.Box):
            raise TypeError(f"as_function: needs one query field, {core.name} has {core.action_space}")
        if "value" not in core.observation_space.spaces:
            raise TypeError(f"as_function: {core.name} answers no value")
        device = core.torch_device
        keys = instance_keys({"instance": key}, keys_from_seed(seed, 1, device))
        self.core = core
        self._process = os.getpid()
        with torch.no_grad(), Threads(core, 1):
            first = core.reset(keys)
        self.history: list[State] = [first]
        self.start = first.observation["point"][0].double().cpu().numpy()
        self._asked = self.start.copy()
        self._query = self.start.astype(core.action_space.dtype)
        self._warned = False
        lower, upper = getattr(first.problem, "lower", None), getattr(first.problem, "upper", None)
        self.bounds = None
        if lower is not None and upper is not None:
            pair = (lower[0].double().cpu().numpy(), upper[0].double().cpu().numpy())
            self.bounds = list(zip(*pair, strict=True))

    @property
    def state(self) -> State:
        """The episode after the last billed query."""
        return self.history[-1]

    @property
    def calls(self) -> dict[str, int]:
        """The ledger."""
        return Named({kind: int(count) for kind, count in self.state.calls.items()})

    @property
    def metrics(self) -> dict[str, float]:
        """The truth at the last point asked."""
        return Named({name: float(value) for name, value in self.state.metrics.items()})

    @property
    def best(self) -> float:
        """The best merit so far."""
        return float(self.state.best)

    def __call__(self, x: Any) -> float:
        """The value at ``x``, shape ``(n,)``; billed unless ``x`` is the last point asked.

        Raises:
            BudgetSpent: the budget is used up; the bill and the history are as they were.
            gymnasium.error.InvalidAction: ``x`` has a wrong shape, a NaN, or is out of bounds.
            TypeError: it is called in another process than the one that made it.
        """
        return float(self._ask(x).observation["value"])

    def gradient(self, x: Any) -> np.ndarray:
        """The gradient at ``x``, float64 ``(n,)``; raises as :meth:`__call__`."""
        if "gradient" not in self.core.observation_space.spaces:
            raise TypeError(f"{self.core.name} answers no gradient with this oracle")
        return self._ask(x).observation["gradient"][0].double().cpu().numpy()

    def value_and_gradient(self, x: Any) -> tuple[float, np.ndarray]:
        """Both, for ``minimize(..., jac=True)``."""
        return self(x), self.gradient(x)

    def _ask(self, x: Any) -> State:
        if os.getpid() != self._process:
            raise TypeError(self._alone)
        space = self.core.action_space
        query = as_action(space, x, None, self.core.torch_device)
        assert isinstance(query, torch.Tensor)
        rounded = query[0].cpu().numpy()
        if np.array_equal(rounded, self._query):
            self._mark(np.asarray(x, np.float64))
            return self.state
        if self._spent():
            raise BudgetSpent(f"{self.core.name}: the budget is spent: {self.calls}")
        check_action(space, query)
        with torch.no_grad(), Threads(self.core, 1):
            self.history.append(self.core.step(self.state, query))
        self._asked, self._query = np.array(x, np.float64), rounded.copy()
        return self.state

    def _spent(self) -> bool:
        """Whether the budget pays no more. A value that is no number ends an episode, but not this."""
        state = self.state
        if not bool(state.diverged):
            return bool(state.truncated)
        return any(int(state.calls[kind]) >= limit for kind, limit in self.core.limits.items())

    def _mark(self, x: np.ndarray) -> None:
        """Say once that another point is the same query."""
        if self._warned or np.array_equal(x, self._asked):
            return
        self._warned = True
        warnings.warn(
            f"as_function: another point than the last one asked rounds to the same {self.core.dtype} "
            "numbers, and has the same answer (unbilled); differences of values then are zero. "
            f"Make {self.core.name} with dtype='float64'",
            stacklevel=4,
        )

    @property
    def _alone(self) -> str:
        return (
            f"as_function: the bill of {self.core.name} is kept in the process that made it, and a copy "
            "would count by itself; ask there (its threads share the bill), or make a function a process"
        )

    def __reduce__(self) -> Any:
        raise TypeError(self._alone)

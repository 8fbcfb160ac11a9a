"""A user's torch module as a surrogate, with an objective and constraints of the user's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optenvs.core.contents import digest
from optenvs.core.errors import cause
from optenvs.core.given import check_settings
from optenvs.core.random import Keys, uniform

from .base import Surrogate
from .parts import Draw, Task


@dataclass(frozen=True, eq=False)
class Parts:
    """The module, what is maximised of its outputs, and what must be <= 0."""

    module: torch.nn.Module
    goal: Callable[[Tensor], Tensor]
    limits: Callable[[Tensor, Tensor], Tensor] | None


_KEPT: dict[str, Parts] = {}
"""The parts of the tasks of this process: a state on disk names its task and holds none of it."""


@dataclass(frozen=True)
class ModuleTask(Task):
    """A task of a user's parts, by their digest and sizes."""

    digest: str
    sizes: tuple[int, int]

    @property
    def parts(self) -> Parts:
        """What the digest stands for.

        Raises:
            LookupError: no environment of this process has these parts.
        """
        if self.digest not in _KEPT:
            raise LookupError(
                "surrogate_from_module: the state is of a module or functions that no environment "
                "of this process has; make that first"
            )
        return _KEPT[self.digest]

    @property
    def outputs(self) -> int:
        return self.sizes[0]

    @property
    def constraint_count(self) -> int:
        return self.sizes[1]

    def network(self, data: Any, x: Tensor) -> Tensor:
        return self.parts.module(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    def objective(self, y: Tensor, aim: None = None) -> Tensor:
        return self.parts.goal(y)

    def slope(self, y: Tensor, aim: None = None) -> Tensor:
        return torch.func.grad(lambda outputs: self.parts.goal(outputs).sum())(y)

    def constraints(self, x: Tensor, y: Tensor, aim: None = None) -> Tensor:
        limits = self.parts.limits
        return x[..., :0] if limits is None else limits(x, y)


@dataclass(frozen=True, eq=False, kw_only=True)
class ModuleSurrogate(Surrogate):
    """A surrogate of the user's; :func:`surrogate_from_module` makes one and says what the fields mean."""

    module: torch.nn.Module
    objective: Callable[[Tensor], Tensor]
    constraints: Callable[[Tensor, Tensor], Tensor] | None = None
    dim: int
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"dim: expected a whole number >= 1, got {self.dim!r}")
        low, high = self.bounds
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"bounds: expected finite low < high, got {self.bounds!r}")
        _ = self.task  # what does not fit is an error now, not at the first reset
        super().__post_init__()

    @property
    def size(self) -> int:
        return self.dim

    @property
    def box_limits(self) -> tuple[float, float]:
        return float(self.bounds[0]), float(self.bounds[1])

    @property
    def bounded_below(self) -> bool:
        return False

    @cached_property
    def task(self) -> ModuleTask:  # type: ignore[override]
        """The module, copied, in the mode of evaluation and in this precision, and what is asked of it."""
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        module = module.to(self.torch_device, self.torch_dtype)
        x = torch.full((3, self.dim), sum(self.bounds) / 2, dtype=self.torch_dtype, device=self.torch_device)
        y = self._tried("module", (3, None), module, x)
        self._tried("objective", (3,), self.objective, y)
        count = 0
        if self.constraints is not None:
            count = self._tried("constraints", (3, None), self.constraints, x, y).shape[1]
        parts = Parts(module, self.objective, self.constraints)
        found = digest(module, self.objective, self.constraints)
        _KEPT[found] = parts  # the latest: what an earlier one captured may have been changed since
        return ModuleTask(found, (y.shape[1], count))

    def _tried(self, name: str, shape: tuple[int | None, ...], call: Any, *given: Tensor) -> Tensor:
        try:
            answer = call(*given)
        except Exception as error:
            sizes = " and ".join(str(tuple(part.shape)) for part in given)
            raise ValueError(
                f"{name}: cannot be called on {self.dtype} tensors of shape {sizes}: {cause(error)}"
            ) from error
        came = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        fits = isinstance(answer, Tensor) and len(answer.shape) == len(shape) and answer.shape[0] == 3
        if not fits:
            expected = "(3,)" if len(shape) == 1 else "(3, some)"
            raise ValueError(f"{name}: expected an answer of shape {expected} for 3 points, got {came}")
        return answer

    def draw(self, keys: Keys) -> Draw:
        low, high = self.box_limits
        start = uniform(keys, "start", self.dim, dtype=self.torch_dtype, low=low, high=high)
        data = torch.zeros_like(start[:, 0])  # all instances have one network, which the task holds
        lower, upper = torch.full_like(start, low), torch.full_like(start, high)
        return Draw(data=data, start=start, lower=lower, upper=upper)


def surrogate_from_module(
    module: torch.nn.Module,
    objective: Callable[[Tensor], Tensor],
    *,
    dim: int,
    constraints: Callable[[Tensor, Tensor], Tensor] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    start: Any = None,
    **keywords: Any,
) -> ModuleSurrogate:
    """Maximise an objective of a torch module's outputs over its inputs, under constraints.

    Example::

        >>> import torch, optenvs, agents
        >>> from optenvs.core.random import keys_from_seed
        >>> network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> env = optenvs.surrogate_from_module(network, lambda y: y[..., 0], dim=3, bounds=(-1.0, 1.0),
        ...     constraints=lambda x, y: torch.stack((y[..., 1] - 1, x.sum(-1) - 2), -1), start=(0.0,) * 3)
        >>> state = env.reset(keys_from_seed(0, 4))
        >>> state.observation["outputs"].shape          # the module's two, and the violated constraints
        torch.Size([4, 4])
        >>> run = optenvs.rollout(env.replace(points=8), agents.CDSM(), batch=4, steps=20)
        >>> bool((run.best[-1] < run.best[0]).all())
        True

    A state on disk names module and functions by a digest of all that they hold: it is loaded where the
    environment has been made.

    Args:
        module: from ``(N, dim)`` to ``(N, p)``; it is copied, in the mode of evaluation, to the environment's
            device and dtype.
        objective: what is maximised, of outputs ``(..., p)`` to ``(...,)``, in torch.
        dim: the number of inputs.
        constraints: what must be <= 0, of inputs ``(..., dim)`` and outputs ``(..., p)`` to ``(..., q)``.
        bounds: the box of the inputs, ``(low, high)``, which no query may leave.
        start: where all instances begin; uniform in the box without it.
        **keywords: those of :class:`optenvs.envs.surrogate.base.Surrogate`: ``points``, ``oracle``,
            ``formulation``, ``white_box``, ``budget``, ...

    Raises:
        ValueError: module, objective or constraints that cannot be called, with the cause, or whose answer
            has another shape.
    """
    check_settings("surrogate_from_module", keywords, ModuleSurrogate)
    return ModuleSurrogate(
        module=module,
        objective=objective,
        constraints=constraints,
        dim=dim,
        bounds=bounds,
        start=start,
        **keywords,
    )

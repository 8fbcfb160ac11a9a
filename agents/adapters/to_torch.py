"""An agent as a ``torch.optim`` optimizer: the parameters of a module are the point.

The parameters of a group, side by side, are the point of one instance, and the agent sees of the module what
it sees of a problem: the point, its gradient, the step ``k``, the horizon ``N``, the loss where it is handed
over, and the layout of the tensors. So a step is the step of :func:`optenvs.rollout`, to rounding, whether a
textbook's rule or a network makes it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from optenvs.core.errors import OracleMismatch, check_keywords
from optenvs.core.random import Keys, as_seed, fold_in, keys_from_seed
from optenvs.core.struct import struct, tensors, tree_map

from ..core import Agent, Observation
from ._resting import kept, resting

_OWN = ("params", "param_names", "lr", "initial_lr", "max_lr", "min_lr", "base_lr")
_KINDS = frozenset({"gradient", "value"})
"""What a backward pass answers."""


@struct
class Memory:
    """What a group remembers between two steps.

    Attributes:
        agent: the agent's memory, of a batch of one.
        master: the point as it would be without the rounding of narrow parameters, ``(1, n)``; ``None``
            where all of them are as wide as the agent's numbers.
        k: steps so far, ``(1, 1)``.
    """

    agent: Any
    master: Tensor | None
    k: Tensor


@dataclasses.dataclass(frozen=True)
class Slot:
    """One parameter tensor of a module, as the agent's problem names it."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The tensors of a point, side by side."""

    layout: tuple[Slot, ...]


@dataclasses.dataclass(frozen=True)
class ModuleProblem:
    """What an agent may know of a module: the layout of its parameters."""

    model: Layout


class AgentOptimizer(torch.optim.Optimizer):
    """See :func:`to_torch`, which makes it."""

    def __init__(
        self,
        params: Iterable[Any],
        agent: Agent,
        *,
        steps: int | None = None,
        lr: float | None = None,
        seed: int = 0,
    ) -> None:
        self.agent = agent
        self.steps = steps
        self.seed = as_seed(seed)
        self._rated = _rated(agent)
        own = getattr(agent, "lr", 1.0) if self._rated else 1.0
        super().__init__(params, {"lr": float(own) if lr is None else lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in ``torch.optim``; a group may also set hyper-parameters of the agent.

        Raises:
            UnknownKeyword: the agent has no such hyper-parameter. TypeError: parameters are complex or
                sparse, or lie on several devices.
        """
        fields = {f.name for f in dataclasses.fields(self.agent)}  # type: ignore[arg-type]
        check_keywords(type(self.agent).__name__, param_group, {*_OWN, *fields})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check(group)
            self._agent(group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:  # type: ignore[override]
        """One step of every group, from the gradients that are there.

        Args:
            closure: computes the loss and its gradients anew, as in ``torch.optim``; or
            loss: the loss that ``backward`` was called on, for agents that look at it.

        Returns:
            The loss that came, by either way.

        Raises:
            OracleMismatch: the agent reads the loss, and none came.
        """
        if closure is not None:
            if loss is not None:
                raise TypeError("step: expected a closure or a loss, got both")
            with torch.enable_grad():
                loss = closure()
        if loss is None and "value" in self.agent.needs:
            raise OracleMismatch(
                f"agent {type(self.agent).__name__} reads the loss: call step(loss=loss) or step(closure)"
            )
        for number, group in enumerate(self.param_groups):
            if any(p.grad is not None for p in group["params"]):
                self._move(number, group, loss)
        return loss

    def _move(self, number: int, group: dict[str, Any], loss: Any) -> None:
        parameters: list[Tensor] = group["params"]
        before: Memory | None = self.state.get(parameters[0], {}).get("memory")
        dtype = _dtype(parameters)
        rounded = _flat(parameters, dtype)
        narrow = any(p.dtype != dtype for p in parameters)
        point = rounded
        if before is not None and before.master is not None:  # what someone has written since counts
            unmoved = (
                _flat([part.to(p.dtype) for p, part in _parts(parameters, before.master)], dtype) == rounded
            )
            point = torch.where(unmoved, before.master, rounded)
        k = torch.zeros_like(point[:, :1]) if before is None else before.k
        seen: Observation = {
            "point": point,
            "gradient": _gradient(parameters, dtype),
            "k": k,
            "N": torch.full_like(k, math.inf if self.steps is None else self.steps),
        }
        if loss is not None:
            seen["value"] = torch.as_tensor(loss).detach().to(point).reshape(1, 1)
        agent = self._agent(group)
        if before is None:
            memory = agent.init(_problem(group), seen, self._key(number, point))
        else:
            memory = before.agent
        action, after = next_point(agent, memory, seen)
        if not self._rated and group["lr"] != 1.0:
            action = point + float(group["lr"]) * (action - point)
        elif group["lr"] == 0:  # as a warm-up begins: what is remembered goes on, and nothing moves
            action = point
        absent = [p.grad is None for p in parameters]
        if any(absent):  # as in torch.optim: neither they nor what is remembered of them moves
            masks = resting(absent, tuple(tuple(p.shape) for p in parameters), point.device)
            action = torch.where(masks["entries"], point, action)
            after = kept(masks, memory, after)
        for parameter, part in _parts(parameters, action):
            if parameter.grad is not None:
                parameter.copy_(part)
        self.state[parameters[0]]["memory"] = Memory(agent=after, master=action if narrow else None, k=k + 1)

    def _agent(self, group: dict[str, Any]) -> Agent:
        """The agent at the hyper-parameters of a group, which a scheduler may change."""
        changes = {name: value for name, value in group.items() if name not in _OWN}
        if self._rated and group["lr"] != 0:  # which agents refuse
            changes["lr"] = float(group["lr"])
        return self.agent.replace(**changes) if changes else self.agent

    def _key(self, number: int, like: Tensor) -> Keys:
        return fold_in(keys_from_seed(self.seed, 1, like.device), number)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit for bit: tensors and numbers by group, nothing else."""
        groups, state, first = [], {}, 0
        for number, group in enumerate(self.param_groups):
            parameters = group["params"]
            places = list(range(first, first + len(parameters)))
            first += len(parameters)
            groups.append({name: v for name, v in group.items() if name != "params"} | {"params": places})
            memory = self.state.get(parameters[0], {}).get("memory") if parameters else None
            if memory is not None:
                state[number] = tensors(memory)
        return {"state": state, "param_groups": groups, "agent": type(self.agent).__name__}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave, for parameters of the same shapes in the same groups.

        Raises:
            ValueError: it is of other parameters, or of another agent; the message says what differs.
        """
        self._check_told(state_dict)
        groups = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        came = [len(group["params"]) for group in groups]
        if sizes != came:
            raise ValueError(f"state_dict: expected groups of {sizes} parameters, got {came}")
        state = {}
        for number, (group, told) in enumerate(zip(self.param_groups, groups, strict=True)):
            settings = {name: value for name, value in told.items() if name != "params"}
            fresh = self._fresh(number, group | settings)
            if number in state_dict["state"]:
                state[group["params"][0]] = {"memory": _filled(fresh, state_dict["state"][number])}
        for group, told in zip(self.param_groups, groups, strict=True):
            group.update({name: value for name, value in told.items() if name != "params"})
        self.state.clear()
        self.state.update(state)

    def _check_told(self, told: dict[str, Any]) -> None:
        """Raise ``ValueError`` for what is not the state of an optimizer by this agent."""
        own = type(self.agent).__name__
        if not {"state", "param_groups"} <= {*told}:
            raise ValueError(
                f"state_dict: expected state, param_groups and agent, as state_dict gives them, got "
                f"{', '.join(map(str, list(told)[:5])) or 'nothing'}"
            )
        known = {*_OWN, *(f.name for f in dataclasses.fields(self.agent))}  # type: ignore[arg-type]
        odd = sorted({name for group in told["param_groups"] for name in group} - known)
        whose = told.get("agent", f"another optimizer, whose groups have {', '.join(odd)}" if odd else own)
        if whose != own:
            raise ValueError(f"state_dict: expected that of agent {own}, got that of {whose}")

    def _fresh(self, number: int, group: dict[str, Any]) -> Memory:
        """The memory of a group before its first step, in the form that it has after it."""
        parameters = group["params"]
        point = _flat(parameters, _dtype(parameters))
        k = torch.zeros_like(point[:, :1])
        seen = {"point": point, "gradient": torch.zeros_like(point), "k": k, "N": k, "value": k}
        with torch.no_grad():
            memory = self._agent(group).init(_problem(group), seen, self._key(number, point))
        narrow = any(p.dtype != point.dtype for p in parameters)
        return Memory(agent=memory, master=point if narrow else None, k=k)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("agent", "steps", "seed", "_rated")}
        return super().__getstate__() | own  # type: ignore[misc]


def to_torch(
    agent: Agent, params: Iterable[Any], *, steps: int | None = None, lr: float | None = None, seed: int = 0
) -> AgentOptimizer:
    """An optimizer for ``torch.nn.Module`` s whose steps an agent makes, learned or not.

    ``optimizer = agents.to_torch(agents.Adam(), module.parameters(), steps=1000)`` stands where any
    ``torch.optim`` optimizer stands: with parameter groups (which may also set hyper-parameters of the
    agent), learning-rate schedulers, ``GradScaler``, and a state dict that resumes bit for bit. Parameters in
    ``float16`` and ``bfloat16`` are kept as ``float32`` beside, so that small steps add up. Those without a
    gradient stay as they are, and so does what is remembered of them: of their entries, of the tensor, and of
    its rows and columns (see :mod:`agents.adapters._resting` for memories of other forms).

    Args:
        agent: one that needs no more than gradients and values.
        params: parameters, named parameters or groups, as in ``torch.optim``.
        steps: N, how many steps there will be, for agents and schedules that read it; ``None``: unknown.
        lr: the learning rate, by default the agent's; of an agent without one, a factor on its steps.
        seed: of what the agent draws.

    Raises:
        OracleMismatch: the agent needs another oracle. TypeError: a parameter is complex or sparse, or
            ``agent`` is none. ValueError: ``steps`` or ``lr`` is out of range.
    """
    check_agent(agent, steps)
    if lr is not None and not lr >= 0:
        raise ValueError(f"lr: expected a number >= 0, got {lr!r}")
    return AgentOptimizer(params, agent, steps=steps, lr=lr, seed=seed)


def check_agent(agent: Any, steps: int | None) -> None:
    """Raise unless ``agent`` is one that gradients and values suffice, and ``steps`` a number of steps.

    Raises:
        TypeError: no agent. OracleMismatch: it needs another oracle. ValueError: ``steps``.
    """
    if not isinstance(agent, Agent):
        raise TypeError(f"agent: expected an agent, such as agents.Adam(), got {agent!r}")
    asked = [need for need in agent.needs if not _KINDS & set(need.split("|"))]
    if asked:
        raise OracleMismatch(
            f"agent {type(agent).__name__} needs {', '.join(asked)}; here are gradients and values"
        )
    if "gradient" not in agent.needs:
        raise OracleMismatch(f"agent {type(agent).__name__} steps without gradients, which are all there is")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps: expected a whole number >= 1 or None, got {steps!r}")


def next_point(agent: Agent, memory: Any, seen: Observation) -> tuple[Tensor, Any]:
    """The agent's next point and memory.

    Raises:
        TypeError: it asks for something else than a point.
    """
    action, after = agent.act(memory, seen)
    if not isinstance(action, Tensor) or action.shape != seen["point"].shape:
        raise TypeError(f"agent {type(agent).__name__}: expected it to answer the next point, got {action!r}")
    return action, after


def _rated(agent: Any) -> bool:
    """Whether the agent has a learning rate of its own, one number."""
    if not hasattr(agent, "lr"):
        return False
    if isinstance(agent.lr, Tensor) and agent.lr.numel() != 1:
        raise ValueError(f"{type(agent).__name__}: lr: expected one number, got {agent.lr.numel()}")
    return True


def _check(group: dict[str, Any]) -> None:
    parameters = group["params"]
    for name, parameter in zip(_names(group), parameters, strict=True):
        if not parameter.is_floating_point():
            raise TypeError(f"parameter {name}: expected real numbers, got {parameter.dtype}")
        if parameter.layout != torch.strided:
            raise TypeError(f"parameter {name}: expected a dense tensor, got {parameter.layout}")
    devices = {str(parameter.device) for parameter in parameters}
    if len(devices) > 1:
        raise TypeError(
            f"params: expected the parameters of a group on one device, got {', '.join(sorted(devices))}; "
            "make a group for each"
        )


def _names(group: dict[str, Any]) -> list[str]:
    return group.get("param_names") or [str(i) for i in range(len(group["params"]))]


def _problem(group: dict[str, Any]) -> ModuleProblem:
    return problem_of(zip(_names(group), group["params"], strict=True))


def problem_of(named: Iterable[tuple[str, Tensor]]) -> ModuleProblem:
    """What an agent may know of these tensors."""
    return ModuleProblem(Layout(tuple(Slot(name, tuple(p.shape)) for name, p in named)))


def _dtype(parameters: list[Tensor]) -> torch.dtype:
    """The agent's numbers: as wide as the widest parameter, and at least float32."""
    dtype = torch.float32
    for parameter in parameters:
        dtype = torch.promote_types(dtype, parameter.dtype)
    return dtype


def _flat(values: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([value.detach().reshape(-1).to(dtype) for value in values]).unsqueeze(0)


def _gradient(parameters: list[Tensor], dtype: torch.dtype) -> Tensor:
    parts = []
    for parameter in parameters:
        slope = parameter.grad
        if slope is not None and slope.layout != torch.strided:
            raise TypeError(f"gradient: expected a dense tensor, got {slope.layout}; use sparse=False")
        parts.append(torch.zeros_like(parameter) if slope is None else slope)
    return _flat(parts, dtype)


def _parts(parameters: list[Tensor], point: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Each parameter and its part of a point."""
    pieces = point[0].split([p.numel() for p in parameters])
    return [(p, piece.view(p.shape)) for p, piece in zip(parameters, pieces, strict=True)]


def _filled(fresh: Memory, told: dict[str, Tensor]) -> Memory:
    """The memory with these tensors."""
    wanted = {path: tuple(value.shape) for path, value in tensors(fresh).items()}
    came = {path: tuple(value.shape) for path, value in told.items()}
    if wanted != came:
        odd = sorted(path for path in wanted.keys() | came.keys() if wanted.get(path) != came.get(path))
        raise ValueError(
            f"state_dict: expected the memory of this agent for these parameters; {odd[0]}: expected "
            f"{wanted.get(odd[0], 'none')}, got {came.get(odd[0], 'none')}"
        )
    values = iter(told[path] for path in wanted)
    return tree_map(lambda leaf: next(values).to(leaf.device, leaf.dtype, copy=True), fresh)

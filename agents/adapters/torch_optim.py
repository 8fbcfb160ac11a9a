"""Any ``torch.optim`` optimizer as an agent.

Each instance has an optimizer and a parameter of its own, so that methods that look at whole tensors (norms,
trust ratios) see one instance only. The optimizer's memory is taken out of it after each step and put into a
fresh optimizer before the next: the agent's state holds all of it, ``act`` is pure, and a resumed run is the
same bit for bit. That costs a loop over instances on the host; the agents of ``agents.gradient`` have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import rows, struct

from ..core import Agent, Observation

Optimizer = torch.optim.Optimizer
_SCALARS = {bool: torch.bool, int: torch.int64, float: torch.float64}


@struct
class TorchState:
    """The memory of ``B`` optimizers.

    Attributes:
        started: whether the instance's optimizer has made a step, ``(B,)``.
        memory: its tensors and numbers by name, with leading dimension ``B``; zeros before the first step.
    """

    started: Bool[Tensor, "B"]
    memory: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class TorchOptimizer(Agent):
    """A ``torch.optim`` optimizer. Differentiating through it gives no gradient: its steps record no graph.

    Args:
        make: from a list with one parameter to an optimizer.
        options: keywords for ``make``.
    """

    make: Callable[..., Optimizer]
    options: dict[str, Any] = field(default_factory=dict)

    needs = ("gradient",)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> TorchState:
        # a step into the void shows what the optimizer remembers, and whether it can be taken out of it
        point = torch.zeros_like(observation["point"][0])
        optimizer, parameter = self._optimizer(point)
        before = _attributes(optimizer)
        try:
            _step(optimizer, parameter, torch.ones_like(point))
        except TypeError as error:
            raise TypeError(
                f"from_torch: {type(optimizer).__name__}.step() without a closure failed ({error}); methods "
                "that evaluate the objective several times a step cannot be adapted"
            ) from error
        hidden = [name for name, value in _attributes(optimizer).items() if before.get(name) != value]
        if hidden:
            raise TypeError(
                f"from_torch: {type(optimizer).__name__} remembers {', '.join(hidden)} outside its state and "
                "its parameter groups; an agent could not resume it"
            )
        batch = len(observation["point"])
        memory = {
            name: torch.zeros((batch, *value.shape), dtype=value.dtype, device=value.device)
            for name, value in _memory(optimizer, parameter).items()
        }
        started = torch.zeros(batch, dtype=torch.bool, device=point.device)
        return TorchState(started=started, memory=memory)

    def act(self, state: TorchState, observation: Observation) -> tuple[Tensor, TorchState]:
        points, memories = [], []
        for i, started in enumerate(state.started.tolist()):
            optimizer, parameter = self._optimizer(observation["point"][i])
            if started:
                _restore(optimizer, parameter, rows(state.memory, i))
            _step(optimizer, parameter, observation["gradient"][i].detach().clone())
            points.append(parameter.detach())
            memories.append(_memory(optimizer, parameter))
        names = memories[0].keys()
        if any(memory.keys() != names for memory in memories):
            raise TypeError(
                "from_torch: what the optimizer remembers depends on the step, so instances at different "
                "steps do not fit one batch"
            )
        memory = {name: torch.stack([one[name] for one in memories]) for name in names}
        return torch.stack(points), TorchState(started=torch.ones_like(state.started), memory=memory)

    def _optimizer(self, point: Tensor) -> tuple[Optimizer, torch.nn.Parameter]:
        parameter = torch.nn.Parameter(point.detach().clone())
        return self.make([parameter], **self.options), parameter


def from_torch(optimizer: Callable[..., Optimizer], **options: Any) -> TorchOptimizer:
    """The agent of an optimizer class, or of a function that makes one.

    Args:
        optimizer: ``torch.optim.NAdam``, a class of another library, or ``lambda parameters: ...``; it must
            step without a closure. One that draws from torch's global generator is not reproducible.
        **options: its keywords (``lr=1e-2``).

    Raises:
        TypeError: it makes no ``torch.optim.Optimizer``, or takes no such keyword.
    """
    if not callable(optimizer):
        raise TypeError(
            f"optimizer: expected a class or a function that makes one, got {type(optimizer).__name__}"
        )
    made = optimizer([torch.nn.Parameter(torch.zeros(2))], **options)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer: expected it to make a torch.optim.Optimizer, got {type(made).__name__}")
    return TorchOptimizer(optimizer, options)


def _step(optimizer: Optimizer, parameter: torch.nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient
    optimizer.step()


def _memory(optimizer: Optimizer, parameter: torch.nn.Parameter) -> dict[str, Tensor]:
    """Tensors and numbers of the parameter's state and of its group, by name, as tensors."""
    found: dict[str, Tensor] = {}
    device = parameter.device
    for part, values in (("state", optimizer.state[parameter]), ("group", optimizer.param_groups[0])):
        for name, value in values.items():
            if isinstance(value, Tensor):  # step counters stay on the host
                place = "" if value.device == device else f" {value.device}"
                found[f"{part} {name}{place}"] = value.detach().to(device, copy=True)
            elif type(value) in _SCALARS:
                dtype = _SCALARS[type(value)]
                found[f"{part} {name} number"] = torch.tensor(value, dtype=dtype, device=device)
            elif part == "state":
                raise TypeError(
                    f"from_torch: {type(optimizer).__name__} remembers a {type(value).__name__} as {name!r}; "
                    "only tensors and numbers can be kept"
                )
    return found


def _restore(optimizer: Optimizer, parameter: torch.nn.Parameter, memory: dict[str, Tensor]) -> None:
    parts = {"state": optimizer.state[parameter], "group": optimizer.param_groups[0]}
    for key, value in memory.items():
        part, name, *kind = key.split(" ")
        if kind == ["number"]:
            parts[part][name] = value.item()
        else:
            parts[part][name] = value.to(torch.device(kind[0]) if kind else value.device, copy=True)


def _attributes(optimizer: Optimizer) -> dict[str, Any]:
    """Numbers that an optimizer keeps on itself."""
    return {name: value for name, value in vars(optimizer).items() if type(value) in _SCALARS}

"""Any ``torch.optim`` optimizer as an agent.

Each instance has an optimizer and a parameter of its own, so that methods that look at whole tensors (norms,
trust ratios) see one instance only. The optimizer's memory (tensors, numbers and short words of its state and
its groups) is taken out of it after each step and put into a fresh optimizer before the next: the agent's
state holds all of it, ``act`` is pure, and a resumed run is the same bit for bit. What remembers anything
else is refused, by name. That costs a loop over instances on the host; the agents of ``agents.gradient`` have
none.
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
Groups = dict[str, dict[str, Any]]
_WORD = 32  # bytes of the longest word that is kept
_SCALARS = {bool: torch.bool, int: torch.int64, float: torch.float64}


@struct
class TorchState:
    """The memory of ``B`` optimizers.

    Attributes:
        memory: its tensors, numbers and words by name, with leading dimension ``B``; else zeros.
        present: for each of them the instances that have it, ``(B,)``: none before the first step, and later
            those whose optimizer is in the phase that needs it.
    """

    memory: dict[str, Tensor]
    present: dict[str, Bool[Tensor, "B"]]


@dataclass(frozen=True, eq=False)
class TorchOptimizer(Agent):
    """A ``torch.optim`` optimizer. Differentiating through it gives no gradient: its steps record no graph.

    Args:
        make: from a list with one parameter to an optimizer.
        options: keywords for ``make``.
    """

    make: Callable[..., Optimizer]
    options: dict[str, Any] = field(default_factory=dict)

    adapts = "make"
    needs = ("gradient",)
    on_host = True

    def init(self, problem: Any, observation: Observation, keys: Keys) -> TorchState:
        # steps into the void show what the optimizer remembers, and whether it can be taken out of it
        point = torch.zeros_like(observation["point"][0])
        optimizer, parameter = self._optimizer(point)
        before, began = _attributes(optimizer), _groups(optimizer)
        for size in (1.0, -0.5, 0.25):
            try:
                _step(optimizer, parameter, torch.full_like(point, size))
            except TypeError as error:
                raise TypeError(
                    f"from_torch: {type(optimizer).__name__}.step() without a closure failed ({error}); "
                    "methods that evaluate the objective several times a step cannot be adapted"
                ) from error
            _refuse_hidden(optimizer, before)
        found = _memory(optimizer, parameter, began)
        batch = len(observation["point"])
        return TorchState(
            memory={name: value.new_zeros((batch, *value.shape)) for name, value in found.items()},
            present={name: torch.zeros(batch, dtype=torch.bool, device=point.device) for name in found},
        )

    def act(self, state: TorchState, observation: Observation) -> tuple[Tensor, TorchState]:
        points, found = [], []
        for i in range(len(observation["point"])):
            optimizer, parameter = self._optimizer(observation["point"][i])
            own, began = rows(state.memory, i), _groups(optimizer)
            _restore(optimizer, parameter, {n: own[n] for n, has in state.present.items() if bool(has[i])})
            _step(optimizer, parameter, observation["gradient"][i].detach().clone())
            points.append(parameter.detach())
            found.append(_memory(optimizer, parameter, began))
        # names of before stay: an instance may come back to the phase that has them
        like = state.memory | {name: value.unsqueeze(0) for one in found for name, value in one.items()}
        memory, present = {}, {}
        for name, example in like.items():
            each = [one.get(name, torch.zeros_like(example[0])) for one in found]
            if any(value.shape != each[0].shape for value in each):
                raise TypeError(f"from_torch: the shape of {name!r} differs between instances")
            memory[name] = torch.stack(each)
            present[name] = torch.tensor([name in one for one in found], device=example.device)
        return torch.stack(points), TorchState(memory=memory, present=present)

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


def _parts(optimizer: Optimizer, parameter: torch.nn.Parameter) -> dict[str, dict[Any, Any]]:
    """Where an optimizer keeps what it remembers: by parameter, by group, and under names of its own."""
    parts: dict[str, dict[Any, Any]] = {"state": optimizer.state[parameter]}
    parts |= {f"group{i}": group for i, group in enumerate(optimizer.param_groups)}
    others = [key for key in optimizer.state if key is not parameter]
    odd = [key for key in others if not isinstance(key, str)]
    if odd:
        raise TypeError(
            f"from_torch: {type(optimizer).__name__} keeps state of a {type(odd[0]).__name__}, which is "
            "neither its parameter nor a name; an agent could not resume it"
        )
    loose = [key for key in others if not isinstance(optimizer.state[key], dict)]
    parts["loose"] = {key: optimizer.state[key] for key in loose}
    return parts | {f"own:{key}": optimizer.state[key] for key in others if key not in loose}


def _groups(optimizer: Optimizer) -> Groups:
    return {f"group{i}": dict(group) for i, group in enumerate(optimizer.param_groups)}


def _memory(optimizer: Optimizer, parameter: torch.nn.Parameter, began: Groups) -> dict[str, Tensor]:
    """Tensors, numbers and words of an optimizer by part, kind and name, as tensors.

    ``began`` are the groups of a fresh one: what they hold of other kinds has to stay as it is.

    Raises:
        TypeError: it remembers something else; the message names it.
    """
    found: dict[str, Tensor] = {}
    device = parameter.device
    for part, values in _parts(optimizer, parameter).items():
        for name, value in values.items():
            if name == "params":
                continue
            if isinstance(value, Tensor):  # step counters stay on the host
                place = "" if value.device == device else f"@{value.device}"
                found[f"{part} tensor{place} {name}"] = value.detach().to(device, copy=True)
            elif type(value) in _SCALARS:
                dtype = _SCALARS[type(value)]
                found[f"{part} number {name}"] = torch.tensor(value, dtype=dtype, device=device)
            elif isinstance(value, str) and len(value.encode()) <= _WORD:
                letters = list(value.encode().ljust(_WORD, b"\0"))
                found[f"{part} word {name}"] = torch.tensor(letters, dtype=torch.uint8, device=device)
            elif part not in began or began[part].get(name) != value:
                raise TypeError(
                    f"from_torch: {type(optimizer).__name__} remembers a {type(value).__name__} as {name!r}; "
                    "only tensors, numbers and short words can be kept"
                )
    return found


def _restore(optimizer: Optimizer, parameter: torch.nn.Parameter, memory: dict[str, Tensor]) -> None:
    for key, value in memory.items():
        part, kind, name = key.split(" ", 2)
        kind, _, place = kind.partition("@")
        if kind == "number":
            kept: Any = value.item()
        elif kind == "word":
            kept = bytes(value.tolist()).rstrip(b"\0").decode()
        else:
            kept = value.to(torch.device(place) if place else value.device, copy=True)
        _place(optimizer, parameter, part)[name] = kept


def _place(optimizer: Optimizer, parameter: torch.nn.Parameter, part: str) -> Any:
    if part.startswith("group"):
        return optimizer.param_groups[int(part.removeprefix("group"))]
    state: Any = optimizer.state
    if part == "loose":
        return state
    return state[parameter] if part == "state" else state.setdefault(part.removeprefix("own:"), {})


def _refuse_hidden(optimizer: Optimizer, before: dict[str, Any]) -> None:
    hidden = sorted(name for name, value in _attributes(optimizer).items() if before.get(name) != value)
    if hidden:
        raise TypeError(
            f"from_torch: {type(optimizer).__name__} remembers {', '.join(hidden)} outside its state and "
            "its parameter groups; an agent could not resume it"
        )


def _attributes(optimizer: Optimizer) -> dict[str, Any]:
    """What an optimizer keeps on itself, in a form that can be compared: an optimizer inside it, too."""
    own = {*vars(optimizer)} - {"state", "param_groups", "defaults"}
    return {name: _told(vars(optimizer)[name], 3) for name in own if not name.startswith("_optimizer_")}


def _told(value: Any, depth: int) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.detach().double().flatten().tolist()
    if isinstance(value, Optimizer):
        inner = {name: _told(part, depth) for name, part in vars(value).items() if name != "param_groups"}
        return _told(inner, depth)
    if isinstance(value, dict) and depth:
        return [(_told(k, 0), _told(v, depth - 1)) for k, v in value.items()]
    if isinstance(value, list | tuple) and depth:
        return [_told(part, depth - 1) for part in value]
    return value if type(value) in _SCALARS or isinstance(value, str) else id(value)

"""vmap over instances, autograd through a step, and the oracle's derivatives against differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from gymnasium import spaces
from torch import Tensor
from torch.utils import _pytree

from optenvs.core.env import Action, OptimizationEnv, State
from optenvs.core.random import normal
from optenvs.core.struct import tensors

from .menu import everything, menu_of
from .probe import TIME, NotApplicable, Probe, assemble, differences, fields, near, part

_STEP = 1e-5  # near the cube root of float64's precision, where a central difference is best
_AGREEMENT = 1e-3
TRIES = 3


def vmap(probe: Probe) -> Iterator[str]:
    """``torch.func.vmap`` of ``step`` over instances equals the batched step."""
    env = probe.env
    if not env.vectorizable:
        raise NotApplicable("the environment declares vectorizable=False")
    state, action = probe.states[0], probe.actions[0]
    leaves, spec = _pytree.tree_flatten((state, action))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def single(*row: Tensor) -> dict[str, Tensor]:
        filled = list(leaves)
        for i, leaf in zip(places, row, strict=True):
            filled[i] = leaf.unsqueeze(0)
        one, ask = _pytree.tree_unflatten(filled, spec)
        return {path: leaf.squeeze(0) for path, leaf in tensors(env.step(one, ask)).items()}

    try:
        found = torch.func.vmap(single)(*(leaves[i] for i in places))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        yield f"vmap cannot run step (a Python branch or .item() on data?): {reason}"
        return
    expected = tensors(probe.states[1])
    if told := differences(expected, found, rounding=True, scale=probe.states[1].merit):
        yield f"vmap of step differs from the batched step: {'; '.join(told[:3])}"


class Line:
    """A step in float64 along a random line through a query of two instances."""

    def __init__(self, probe: Probe) -> None:
        env = probe.env
        self.env: OptimizationEnv = env if env.dtype == "float64" else env.replace(dtype="float64")
        self.menu = menu_of(self.env)
        if self.menu is not None:  # all of it is asked at once
            self.env = self.env.replace(budget=None)
        self.keys = probe.keys[:2]
        self.start = self.env.sample(self.keys).start
        self.state = self.env.reset(self.keys)

    def point(self, number: int) -> Action:
        action = near(self.env, self.keys, self.start, number)
        # at a bound best and reward have a kink: what lies outside earns no credit
        inside = {n: _within(space, part(action, n)) for n, space in fields(self.env).items()}
        action = assemble(self.env, inside)
        return everything(action) if self.menu is not None and isinstance(action, dict) else action

    def direction(self, number: int, only: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        found = {}
        for name in fields(self.env):
            value = part(self.start, name)
            if value.is_floating_point() and (only is None or name in only):
                drawn = normal(self.keys, f"line {name}", tuple(value.shape[1:]), number, torch.float64)
                # of length about 1 in every dimension, or many kinks of a network lie within a step
                found[name] = drawn / value[0].numel() ** 0.5
        if not found:
            raise NotApplicable("no part of the action is a floating Box")
        return found

    def moved(self, point: Action, direction: dict[str, Tensor], by: float) -> Action:
        parts = {name: part(point, name) for name in fields(self.env)}
        return assemble(self.env, parts | {name: parts[name] + by * d for name, d in direction.items()})

    def slopes(
        self, point: Action, direction: dict[str, Tensor], read: Callable[[State], dict[str, Tensor]]
    ) -> tuple[dict[str, Tensor], dict[str, bool], dict[str, Tensor]]:
        """Central differences by name, whether two step sizes agree on them, and their rounding error."""
        answers = [
            read(self.env.step(self.state, self.moved(point, direction, by)))
            for by in (_STEP, -_STEP, _STEP / 4, -_STEP / 4)
        ]
        slope, sure, error = {}, {}, {}
        for name in answers[0]:
            far, back, close, behind = (answer[name] for answer in answers)
            slope[name] = (far - back) / (2 * _STEP)
            closer = (close - behind) / (_STEP / 2)
            error[name] = 4096 * torch.finfo(torch.float64).eps * far.abs().amax() / _STEP
            sure[name] = bool(slope[name].isfinite().all()) and agree(slope[name], closer, error[name])
        return slope, sure, error


def _within(space: spaces.Space, value: Tensor) -> Tensor:
    """``value``, so far within its bounds that a line of differences stays there."""
    if not value.is_floating_point() or not isinstance(space, spaces.Box):
        return value
    low, high = (torch.from_numpy(end.copy()).to(value) for end in (space.low, space.high))
    room = torch.minimum(torch.full_like(low, 100 * _STEP), (high - low) / 4)
    return torch.minimum(torch.maximum(value, low + room), high - room)


def agree(one: Tensor, other: Tensor, error: Tensor) -> bool:
    """Whether two derivatives are one, but for their rounding ``error``."""
    size = torch.maximum(one.abs().amax(), other.abs().amax())
    return bool(((one - other).abs() <= _AGREEMENT * size + error).all())


def _outputs(state: State) -> dict[str, Tensor]:
    """What a gradient may come from: merit, reward, metrics, observation, each ``(B,)`` or summed to it."""
    named = {"merit": state.merit, "reward": state.reward}
    named |= {f"metrics.{name}": value for name, value in state.metrics.items()}
    named |= {f"observation.{n}": v for n, v in state.observation.items() if n not in TIME}
    mixed = {}
    for name, value in named.items():
        if value.is_floating_point():
            # unequal weights, so that errors in single entries do not cancel
            weights = torch.linspace(0.5, 1.5, value[0].numel(), dtype=value.dtype, device=value.device)
            mixed[name] = (value.reshape(len(value), -1) * weights).sum(-1)
    return mixed


def gradients(probe: Probe) -> Iterator[str]:
    """Autograd through ``step`` agrees with central differences, for every output, in float64."""
    if not probe.env.differentiable:
        raise NotApplicable("the environment declares differentiable=False")
    line = probe.once(Line)
    unsure: set[str] = set()
    for number in range(TRIES):
        point, direction = line.point(number), line.direction(number)
        slope, sure, error = line.slopes(point, direction, _outputs)
        carried = _autograd(line, point, direction)
        names = [name for name in slope if number == 0 or name in unsure]
        unsure = {name for name in names if not sure[name]}
        for name in names:
            if name in unsure:
                continue
            found = carried[name]
            if found is None:
                if not agree(slope[name], torch.zeros_like(slope[name]), error[name]):
                    yield f"{name} carries no gradient to the action, but it changes with it"
            elif not agree(slope[name], found, error[name]):
                yield (
                    f"{name}: autograd gives a slope of {found.tolist()} along a line, central differences "
                    f"give {slope[name].tolist()}"
                )
        if not unsure:
            return
    probe.remark(f"gradients: differences of {', '.join(sorted(unsure))} are not smooth enough to judge")


def _autograd(line: Line, point: Action, direction: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Slopes along ``direction`` by reverse mode, ``(B,)`` by output; ``None`` where no graph leads."""
    with torch.enable_grad():
        by = torch.zeros(len(line.keys), dtype=torch.float64, device=line.keys.device, requires_grad=True)
        parts = {name: part(point, name) for name in fields(line.env)}
        for name, d in direction.items():
            parts[name] = parts[name] + by.reshape(-1, *[1] * (d.ndim - 1)) * d
        outputs = _outputs(line.env.step(line.state, assemble(line.env, parts)))
        found: dict[str, Tensor | None] = {}
        for name, value in outputs.items():
            found[name] = None
            if value.requires_grad:
                (found[name],) = torch.autograd.grad(value.sum(), by, retain_graph=True, allow_unused=True)
        return found


def oracle(probe: Probe) -> Iterator[str]:
    """The gradient answered is the slope of the value answered, and an exact hvp that of the gradient."""
    name = "point" if "point" in fields(probe.env) else "action"
    shown, action = probe.states[1].observation, probe.actions[0]
    if name not in fields(probe.env) or not {"value", "gradient"} <= shown.keys():
        raise NotApplicable("the observation has no value and gradient of one point")
    if shown["gradient"].shape != part(action, name).shape or shown["value"][0].numel() != 1:
        raise NotApplicable("value and gradient are not those of one point")
    if not torch.equal(shown["value"].flatten(), probe.states[1].merit):
        raise NotApplicable("the value answered is not the merit: it is noisy, or of another point")
    if "point" in shown and not torch.equal(shown["point"], part(action, name)):
        raise NotApplicable("the action is not the point that is answered")
    line = probe.once(Line)
    for number in range(TRIES):
        point, direction = line.point(number), line.direction(number, only=(name,))
        slope, sure, error = line.slopes(point, direction, _answers)
        answer = line.env.step(line.state, point).observation
        if not sure["value"]:
            continue
        found = (answer["gradient"] * direction[name]).flatten(1).sum(-1, keepdim=True)
        if not agree(slope["value"], found, error["value"]):
            yield (
                f"gradient: expected a slope of {slope['value'].flatten().tolist()} along a line (central "
                f"differences of the value), got {found.flatten().tolist()}"
            )
        break
    else:
        probe.remark("oracle: differences of the value are not smooth enough to judge")
    if "hvp" in shown and "vector" in fields(probe.env) and "hvp" not in probe.env.approximate:
        yield from _products(line, name)


def _products(line: Line, name: str) -> Iterator[str]:
    point, vector = line.point(0), line.direction(0, only=("vector",))["vector"]
    asked = {n: part(point, n) for n in fields(line.env)} | {"vector": vector}
    slope, sure, error = line.slopes(asked, {name: vector}, _answers)
    found = line.env.step(line.state, asked).observation["hvp"]
    if sure["gradient"] and not agree(slope["gradient"], found, error["gradient"]):
        yield "hvp: expected the slope of the gradient along the vector (central differences), got another"


def _answers(state: State) -> dict[str, Tensor]:
    return {name: state.observation[name] for name in ("value", "gradient")}

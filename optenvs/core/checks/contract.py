"""What an environment declares, and whether its states are what it declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction
from torch import Tensor
from torch.utils import _pytree

from optenvs.core.env import State
from optenvs.core.spaces import as_action, check_action
from optenvs.core.struct import tensors

from .probe import Probe, fields, kind, part


def declarations(probe: Probe) -> Iterator[str]:
    """Oracles, bill and spaces say something sensible."""
    env = probe.env
    if not env.oracles or not all(isinstance(name, str) for name in env.oracles):
        yield f"oracles: expected the names of the kinds answered, got {env.oracles!r}"
    if not env.bill:
        yield "bill: expected at least one oracle kind, got none"
    for name, cost in env.bill.items():
        if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
            yield f"bill: expected a whole number >= 0 for {name!r}, got {cost!r}"
    if env.bill and next(iter(env.bill.values())) == 0:
        yield f"bill: the main oracle {next(iter(env.bill))!r} must cost at least 1, got 0"
    named = {f"action {n!r}": s for n, s in fields(env).items()}
    named |= {f"observation {n!r}": s for n, s in env.observation_space.items()}
    for name, space in named.items():
        if isinstance(space, spaces.Box) and space.shape == ():
            yield f"{name}: expected a Box of shape (1,) for a scalar, got shape ()"
        if isinstance(space, spaces.Box) and space.dtype.kind == "f" and space.dtype.name != env.dtype:
            yield f"{name}: expected the environment's dtype {env.dtype}, got {space.dtype.name}"


def start(probe: Probe) -> Iterator[str]:
    """The first query is valid and its merit is a number."""
    env, first = probe.env, probe.states[0]
    try:
        action = as_action(env.action_space, probe.start, probe.batch, env.torch_device)
        check_action(env.action_space, action)
    except InvalidAction as error:
        yield f"sample().start: expected a query in the action space: {error}"
    for name in fields(env):
        value, space = part(probe.start, name), fields(env)[name]
        if np.dtype(space.dtype).name != str(value.dtype).removeprefix("torch."):
            yield f"sample().start: {name}: expected dtype {space.dtype}, got {value.dtype}"
    if bool(first.diverged.any()):
        yield "reset: expected a finite merit at the first query, some instances have none"


def shapes(probe: Probe) -> Iterator[str]:
    """Every tensor of a state has the leading dimension B, its dtype, and the environment's device."""
    env, batch, real = probe.env, probe.batch, probe.env.torch_dtype
    rows: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "key": (torch.int64, (batch,)),
        "k": (torch.int64, (batch,)),
        "reward": (real, (batch,)),
        "terminated": (torch.bool, (batch,)),
        "truncated": (torch.bool, (batch,)),
        "diverged": (torch.bool, (batch,)),
        "merit": (real, (batch,)),
        "best": (real, (batch,)),
        "calls.counts": (torch.int64, (batch, len(env.bill))),
    }
    for when, state in (("reset", probe.states[0]), ("step", probe.states[-1])):
        leaves = tensors(state)
        for path, (dtype, shape) in rows.items():
            value = leaves.get(path)
            if value is None or value.dtype != dtype or tuple(value.shape) != shape:
                came = "nothing" if value is None else kind(value)
                name = str(dtype).removeprefix("torch.")
                yield f"{when}: {path}: expected {name} {shape}, got {came}"
        for name, value in state.metrics.items():
            wrong = tuple(value.shape) != (batch,)
            if wrong or (value.is_floating_point() and value.dtype != real):
                yield f"{when}: metrics.{name}: expected {env.dtype} ({batch},), got {kind(value)}"
        for path, value in leaves.items():
            if value.ndim == 0 or len(value) != batch:
                yield f"{when}: {path}: expected the leading dimension {batch}, got {kind(value)}"
            if not _on(value.device, env.torch_device):
                yield f"{when}: {path}: expected the device {env.torch_device}, got {value.device}"
        for leaf in _pytree.tree_leaves(state):
            if leaf is not None and not isinstance(leaf, Tensor):
                yield (
                    f"{when}: the state holds a {type(leaf).__name__}, expected tensors in @struct classes, "
                    "dicts and tuples; declare configuration as a static() field"
                )


def _on(device: torch.device, wanted: torch.device) -> bool:
    return device.type == wanted.type and wanted.index in (None, device.index)


def observations(probe: Probe) -> Iterator[str]:
    """Every observation lies in the observation space, with the fields that tell the time."""
    declared = dict(probe.env.observation_space.items())
    for name in probe.env.time_fields:
        if name not in declared:
            yield f"observation_space: expected the field {name!r}"
    for number, state in enumerate(probe.states):
        for name in declared.keys() - state.observation.keys():
            yield f"query {number}: the observation lacks the declared field {name!r}"
        for name, value in state.observation.items():
            if name not in declared:
                yield f"query {number}: the observation has a field {name!r} that its space has not"
            else:
                yield from _inside(f"query {number}: observation {name!r}", declared[name], value)


def _inside(where: str, space: spaces.Space, value: Tensor) -> Iterator[str]:
    array = value.detach().cpu().numpy()
    if array.dtype != space.dtype or array.shape[1:] != space.shape:
        yield f"{where}: expected {space.dtype} {space.shape} a row, got {array.dtype} {array.shape[1:]}"
        return
    for row, entry in enumerate(array):
        if not space.contains(entry):
            size = f"[{entry.min()}, {entry.max()}]" if entry.size else "nothing"
            yield f"{where}: row {row} with numbers in {size} lies outside {space}"
            return


def secrets(probe: Probe) -> Iterator[str]:
    """What is hidden is not in ``problem``, which agents see."""
    first = probe.states[0]
    for path, secret in tensors(first.hidden).items():
        for shown, value in tensors(first.problem).items():
            if _shared(secret, value) or _copied(secret, value):
                yield f"problem.{shown} shows agents what hidden.{path} keeps from them"


def _shared(one: Tensor, other: Tensor) -> bool:
    if not one.numel() or not other.numel():
        return False
    return one is other or one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _copied(one: Tensor, other: Tensor) -> bool:
    # equal by chance are constants only: the rows of a real secret differ
    if not one.is_floating_point() or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) and not torch.equal(one, one[:1].expand_as(one))


def refusals(probe: Probe) -> Iterator[str]:
    """The action space refuses what is no query, and names the field."""
    env = probe.env
    good = {name: part(probe.actions[0], name)[0].cpu().numpy() for name in fields(env)}
    try:
        _ask(probe, good)
    except InvalidAction as error:
        yield f"a valid query near the start is refused: {error}"
    if isinstance(env.action_space, spaces.Dict):
        name = next(iter(good))
        if _accepted(probe, {n: v for n, v in good.items() if n != name}):
            yield f"an action without its field {name!r} is accepted"
    for name, space in fields(env).items():
        if not isinstance(space, spaces.Box):
            continue
        for what, value in _bad(space, good[name]):
            if _accepted(probe, good | {name: value}):
                yield f"an action whose {name!r} {what} is accepted"


def _bad(space: spaces.Box, good: np.ndarray) -> Iterator[tuple[str, Any]]:
    yield "has one dimension too many", good[None]
    yield "is complex", good.astype(complex)
    yield "is text", np.full(good.shape, "x")
    for number in (np.nan, np.inf):
        value = good.astype(float)
        value.flat[0] = number
        yield f"holds {number}", value
    for side, limit, step in (("above", space.high, 1), ("below", space.low, -1)):
        bounded = getattr(space, f"bounded_{side}")
        if bounded.any():
            value = good.copy()
            index = tuple(np.argwhere(bounded)[0])
            value[index] = limit[index] + step * max(1.0, abs(float(limit[index])) * 1e-3)
            yield f"lies {side} its bound", value


def _ask(probe: Probe, parts: dict[str, Any]) -> None:
    env = probe.env
    query = parts if isinstance(env.action_space, spaces.Dict) else parts["action"]
    check_action(env.action_space, as_action(env.action_space, query, None, env.torch_device))


def _accepted(probe: Probe, parts: dict[str, Any]) -> bool:
    try:
        _ask(probe, parts)
    except InvalidAction:
        return False
    return True


def time(probe: Probe) -> Iterator[str]:
    """``k`` counts the queries, ``N`` is the horizon, ``spent`` what is used, and the keys stay."""
    horizon = float("inf") if probe.env.horizon is None else float(probe.env.horizon)
    for number, state in enumerate(probe.states):
        if not bool((state.k == number).all()):
            yield f"query {number}: state.k: expected {number}, got {state.k.tolist()}"
        yield from _told(number, state, "k", float(number))
        yield from _told(number, state, "N", horizon)
        spent = state.observation.get("spent")
        if spent is not None:
            shares = [state.calls[kind] / limit for kind, limit in probe.env.limits.items()]
            used = torch.stack(shares).amax(0) if shares else torch.zeros_like(state.merit)
            if not torch.allclose(spent[:, 0].to(used), used, rtol=1e-5):
                yield f"query {number}: observation['spent']: expected {used.tolist()}, got {spent.tolist()}"
        if not torch.equal(state.key, probe.keys):
            yield f"query {number}: state.key: expected the keys of reset, they were changed"


def _told(number: int, state: State, name: str, value: float) -> Iterator[str]:
    told = state.observation.get(name)
    if told is not None and not bool((told == value).all()):
        yield f"query {number}: observation[{name!r}]: expected {value}, got {told.flatten().tolist()}"

"""Runs of the methods for equality constraints, with the steps that they accept."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.constrained.gmres import times
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys


class Course(NamedTuple):
    """The accepted steps of one row.

    Attributes:
        steps: their lengths.
        residual: |(grad_x L, c)| before the first and after each.
        point, multipliers: where it ends.
        memory: the agent's, of all rows.
        state: of all rows.
    """

    steps: list[float]
    residual: list[float]
    point: Tensor
    multipliers: Tensor
    memory: Any
    state: Any


def residual(memory: Any) -> Tensor:
    """|(grad_x L, c)| where the agents stand, of answers given there, ``(B,)``."""
    notes = memory.notes
    turned = notes["adjoint_product"] if "adjoint_product" in notes.answers else None
    if turned is None:
        turned = times(notes["jacobian"].mT, memory.multipliers)
    return torch.cat((notes["gradient"] + turned, notes["constraints"]), -1).norm(dim=-1)


def courses(env: Any, agent: Any, batch: int = 1, seed: int = 0, most: int = 2000) -> list[Course]:
    """The course of each row, until all have finished: the agent's tolerance ends them, not the problem's."""
    keys = keys_from_seed(seed, batch)
    steps: list[list[float]] = [[] for _ in range(batch)]
    path: list[list[float]] = [[] for _ in range(batch)]
    with torch.no_grad():
        state = env.reset(keys)
        memory = agent.init(state.problem, state.observation, agent_keys(keys))
        for _ in range(most):
            if bool(memory.finished.all()):
                break
            before = memory
            action, memory = agent.act(memory, state.observation)
            for i in (memory.iterations > before.iterations).nonzero().flatten().tolist():
                steps[i].append(float(memory.step[i]))
            # derivatives at a point are known when it has been accepted, and a direction is to be found
            known, notes = ~before.finished, before.notes.read(state.observation)
            for kind in ("constraints", "gradient", "jacobian"):
                known = known & notes.holds(kind, x=memory.x)
            now = residual(memory)
            for i in known.nonzero().flatten().tolist():
                if len(path[i]) == int(memory.iterations[i]):
                    path[i].append(float(now[i]))
            state = env.step(state, action)
    return [
        Course(steps[i], path[i], memory.x[i], memory.multipliers[i], memory, state) for i in range(batch)
    ]

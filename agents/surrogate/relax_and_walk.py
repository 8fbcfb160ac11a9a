"""Relax and walk (Tong, Cai, Serra 2024): linear programs on the pieces of a ReLU network over a box.

    relax   the linear relaxation of the network's mixed-integer program gives a first point
    walk    maximise on the linear piece of x: a linear program with all activations fixed, at x' say; where
            the value has increased, x <- x' + eps (x' - x), on the piece behind x'; components that would
            leave the box stay those of x'
    anew    where it has not: the relaxation again, with one more neuron fixed at the sign that it had at
            the first point, drawn with probability proportional to |sign - relaxed binary| + 0.05; points on
            pieces already walked are skipped

When all neurons are fixed, they are drawn anew. Each query is one point x'.

The linear programs are HiGHS's, by scipy, one instance after the other on the host: unlike other agents this
one gains nothing from a batch, and on a GPU waits for the copies. They ask the oracle nothing, and are on
record as the agent's own work: relaxations, and programs on a piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys, bits, uniform
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, require
from ._queries import LOWEST, Incumbent, first, project, query
from ._relu import Layers, big_m, relu_network

STARTS = ("relaxation", "random")
WORK = ("relaxation", "piece")
_GAIN = 1e-9  # the least increase of a walk


@struct
class WalkState:
    """The memory of the walk.

    Attributes:
        problem: what the agent knows, with the network.
        keys: of the random draws, ``(B,)``.
        point: on whose piece the last linear program was, ``(B, n)``.
        value: of the walk so far, ``(B,)``; infinite at its start.
        signs, weight: of the neurons at the first relaxation, and their weights in the draw, ``(B, H)``.
        fixed: neurons fixed so far, ``(B,)``; -1 before the first relaxation.
        draws: starts so far, ``(B,)``: the counter of what is drawn.
        cycle: how often the order of the neurons has been drawn, ``(B,)``.
        seen: the last pieces walked, as numbers that differ between pieces, ``(B, memory)``.
        pieces: pieces walked so far, ``(B,)``.
        work: linear programs solved so far: relaxations, and those of a piece.
    """

    problem: Any
    keys: Keys
    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    signs: Bool[Tensor, "B H"]
    weight: Float[Tensor, "B H"]
    fixed: Int64[Tensor, "B"]
    draws: Int64[Tensor, "B"]
    cycle: Int64[Tensor, "B"]
    seen: Int64[Tensor, "B memory"]
    pieces: Int64[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class RelaxAndWalk(Agent):
    """Relax and walk.

    Args:
        starts: ``relaxation``; or ``random``, uniform points of the box.
        overshoot: eps, how far a walk goes beyond the end of a piece, relative to its step there.
        memory: how many of the last pieces are remembered.
    """

    starts: str = "relaxation"
    overshoot: float = 0.01
    memory: int = 256

    needs = ("value", "poll")
    on_host = True

    def __post_init__(self) -> None:
        require(self, "starts", self.starts in STARTS, " or ".join(STARTS))
        require(self, "overshoot", self.overshoot > 0, "a number > 0")
        require(self, "memory", self.memory >= 1, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> WalkState:
        layers = relu_network(self, problem)
        held, zero = first(observation), torch.zeros_like(keys)
        neurons = sum(bias.shape[1] for bias in layers.bias[:-1])
        return WalkState(
            problem=problem,
            keys=keys,
            point=held.point,
            value=torch.full_like(held.value, -torch.inf),  # no walk yet: nothing is better
            signs=zero.unsqueeze(-1).repeat(1, neurons) > 0,
            weight=torch.zeros_like(held.value).unsqueeze(-1).repeat(1, neurons),
            fixed=zero - 1,
            draws=zero,
            cycle=zero,
            seen=zero.unsqueeze(-1).repeat(1, self.memory),
            pieces=zero,
            work=Ledger.empty(WORK, len(keys), keys.device),
        )

    def act(self, state: WalkState, observation: Observation) -> tuple[Action, WalkState]:
        problem, held = state.problem, first(observation)
        answered = (observation["evaluated"][:, 0] > 0) & (observation["failed"][:, 0] == 0)
        rises = answered & (held.value < state.value - _GAIN)
        further = held.point + self.overshoot * (held.point - state.point)
        outside = (further < problem.lower) | (further > problem.upper)
        walked = torch.where(outside, held.point, further)
        share = uniform(state.keys, "start", walked.shape[-1], state.draws, walked.dtype)
        anew = problem.lower + share * (problem.upper - problem.lower)
        order = uniform(state.keys, "order", state.signs.shape[1], state.cycle, torch.float64)
        each = [
            _Instance(self, state, row, order[row].cpu().numpy()).next(
                bool(rises[row]), _array(walked[row]), _array(anew[row])
            )
            for row in range(len(rises))
        ]
        columns = {
            name: torch.as_tensor(np.stack([r[name] for r in each])).to(getattr(state, name))
            for name in each[0]
            if name not in ("vertex", "work")
        }
        solved = torch.as_tensor(np.stack([r["work"] for r in each])).to(state.work.counts)
        vertex = torch.as_tensor(np.stack([r["vertex"] for r in each])).to(walked)
        everything = Incumbent(held.point, torch.full_like(held.value, LOWEST), held.outputs)
        target, none = project(problem, vertex).unsqueeze(1), torch.zeros_like(state.keys)
        action = query(problem, observation, everything, target, none, none + 1)
        value, work = torch.where(rises, held.value, torch.inf), state.work.bill(solved)
        return action, replace(state, value=value, work=work, **columns)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


class _Instance:
    """The linear programs of one instance."""

    def __init__(self, agent: RelaxAndWalk, state: WalkState, row: int, order: np.ndarray) -> None:
        self.agent = agent
        self.layers = Layers(state.problem.weights, row)
        self.lower, self.upper = _array(state.problem.lower[row]), _array(state.problem.upper[row])
        self.signs, self.weight = state.signs[row].cpu().numpy(), _array(state.weight[row])
        self.fixed, self.draws, self.cycle = (int(t[row]) for t in (state.fixed, state.draws, state.cycle))
        self.seen, self.pieces = state.seen[row].cpu().numpy().copy(), int(state.pieces[row])
        self.uniform = order
        self.relaxations = 0
        zero = torch.zeros(1, dtype=torch.int64)
        self.code = bits(zero, "piece", self.layers.neurons)[0].numpy()

    def next(self, rises: bool, walked: np.ndarray, anew: np.ndarray) -> dict[str, Any]:
        """The next vertex, and what has changed of the state."""
        point = walked if rises else self._start(anew)
        pattern = self.layers.pattern(point)
        self.seen[self.pieces % len(self.seen)] = self._number(pattern)
        self.pieces += 1
        return {
            "vertex": self._vertex(point, pattern),
            "point": point,
            "signs": self.signs,
            "weight": self.weight,
            "fixed": np.int64(self.fixed),
            "draws": np.int64(self.draws),
            "cycle": np.int64(self.cycle),
            "seen": self.seen,
            "pieces": np.int64(self.pieces),
            "work": np.array([self.relaxations, 1]),
        }

    def _number(self, pattern: np.ndarray) -> np.int64:
        """A number of the piece: a sum of random words, one for each active neuron."""
        return np.int64(self.code[pattern].sum())

    def _vertex(self, point: np.ndarray, pattern: np.ndarray) -> np.ndarray:
        """The best point of a linear piece; ``point`` itself where the solver finds none."""
        slopes, offsets, slope = self.layers.piece(pattern)
        sign = np.where(pattern, -1.0, 1.0)  # active: a >= 0
        best = _minimum(-slope, sign[:, None] * slopes, -sign * offsets, self._box())
        return point if best is None else best

    def _box(self) -> list[tuple[float, float | None]]:
        return list(zip(self.lower, self.upper, strict=True))

    def _start(self, anew: np.ndarray) -> np.ndarray:
        self.draws += 1
        if self.agent.starts == "random":
            return anew
        if self.fixed < 0:
            best = self._relaxation(np.zeros(0, dtype=np.int64))
            if best is None:
                return anew
            point, binary = best
            self.signs = self.layers.pattern(point)
            self.weight = np.abs(self.signs - binary) + 0.05
            self.fixed = 0
            return point
        # without replacement, proportional to the weights: the order of exponential times of these rates
        order = np.argsort(-np.log1p(-self.uniform) / self.weight)
        while self.fixed < len(order):
            self.fixed += 1
            best = self._relaxation(order[: self.fixed])
            if best is not None and self._number(self.layers.pattern(best[0])) not in self.seen:
                return best[0]
        self.fixed, self.cycle = 0, self.cycle + 1
        return anew

    def _relaxation(self, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The relaxed program with neurons ``fixed`` at their signs: the point, and the binaries."""
        self.relaxations += 1
        size, hidden = self.layers.inputs, self.layers.neurons
        rows, sides, cost, _ = big_m(self.layers, self.lower, self.upper)
        binary: list[tuple[float, float | None]] = [(0.0, 1.0)] * hidden
        for j in fixed:
            binary[j] = (float(self.signs[j]), float(self.signs[j]))
        best = _minimum(cost, rows, sides, self._box() + [(0.0, None)] * hidden + binary)
        return None if best is None else (best[:size], best[size + hidden :])


def _minimum(cost: np.ndarray, rows: np.ndarray, sides: np.ndarray, bounds: Any) -> np.ndarray | None:
    """The solution of a linear program, cut to its bounds; ``None`` where there is none."""
    from scipy.optimize import linprog  # loaded by those who solve programs

    found = linprog(cost, A_ub=rows, b_ub=sides, bounds=bounds, method="highs")
    return None if found.x is None else np.asarray(found.x)

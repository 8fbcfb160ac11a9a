"""Quadratics, and menus, with one fault each, for the tests of the checker."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from menu_problems import Program

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.spaces import box
from optenvs.core.struct import struct
from optenvs.envs.landscapes.base import Problem
from optenvs.envs.landscapes.classic import Rosenbrock
from optenvs.envs.landscapes.quadratic import LeastSquares, Quadratic

Faulty = dataclass(frozen=True, eq=False, kw_only=True)


@Faulty
class InPlaceStep(Quadratic):
    def answer(self, state: State, action: Action) -> Answer:
        state.hidden.coefficients.mul_(0.9)
        return super().answer(state, action)


@Faulty
class InPlaceOnce(Quadratic):
    """Harmless the second time, so that repeating the call shows nothing."""

    def answer(self, state: State, action: Action) -> Answer:
        action.clamp_(-0.1, 0.1)
        return super().answer(state, action)


@Faulty
class GlobalNoise(Quadratic):
    def value_and_gradient(self, x, coefficients):
        value, gradient = super().value_and_gradient(x, coefficients)
        return value, gradient + 0.1 * torch.randn_like(gradient)


@Faulty
class NumpySeeding(Quadratic):
    def sample(self, keys):
        np.random.seed(0)  # noqa: NPY002 (the fault)
        return super().sample(keys)


@Faulty
class RemembersOnItself(Quadratic):
    """Keeps its own clock on the object: a restored state goes on otherwise, and a repeated call as well."""

    def answer(self, state: State, action: Action) -> Answer:
        count = self.__dict__.get("count", 0)
        object.__setattr__(self, "count", count + 1)
        return super().answer(state, action * (1 + 1e-3 * count))


@Faulty
class FreeGradient(Quadratic):
    @property
    def bill(self):
        return {"value": 1}


@Faulty
class DoubleBill(Quadratic):
    def step(self, state: State, action: Action) -> State:
        after = super().step(state, action)
        return dataclasses.replace(after, calls=after.calls.bill({"gradient": 1}))


@Faulty
class AsksTwice(Quadratic):
    """Looks twice before it answers, and bills one look."""

    def step(self, state: State, action: Action) -> State:
        self.answer(state, action)
        return super().step(state, action)


@Faulty
class BatchInstance(Quadratic):
    def sample(self, keys):
        instance = super().sample(keys)
        return dataclasses.replace(instance, start=instance.start * (1 + torch.arange(len(keys))[:, None]))


@Faulty
class MixedRows(Quadratic):
    def value_and_gradient(self, x, coefficients):
        value, gradient = super().value_and_gradient(x, coefficients)
        return value, gradient - 0.1 * gradient.mean(0)


@Faulty
class DoubleMerit(Quadratic):
    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        return dataclasses.replace(answer, merit=answer.merit.double())


@Faulty
class ColumnMetric(Quadratic):
    def measure(self, x):
        return {"norm": x.norm(dim=-1, keepdim=True)}


@Faulty
class OutsideItsSpace(Quadratic):
    def observation_fields(self):
        return super().observation_fields() | {"value": box((1,), self.dtype, low=0.0, high=1e-6)}


@Faulty
class UndeclaredField(Quadratic):
    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        return dataclasses.replace(answer, observation=answer.observation | {"extra": answer.merit[:, None]})


@Faulty
class EndlessBudget(Quadratic):
    def step(self, state: State, action: Action) -> State:
        return dataclasses.replace(super().step(state, action), truncated=torch.zeros_like(state.truncated))


@Faulty
class EarlyEnd(Quadratic):
    """One query too few: the usual fault by one."""

    def step(self, state: State, action: Action) -> State:
        after = super().step(state, action)
        spent = after.calls["gradient"] + 1 >= self.limits["gradient"]
        return dataclasses.replace(after, truncated=after.truncated | spent)


@Faulty
class SilentNaN(Quadratic):
    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        return dataclasses.replace(answer, merit=answer.merit.nan_to_num(0.0, 0.0, 0.0))


@Faulty
class SpreadsNaN(Quadratic):
    """A matrix product against zeros: a finite number times 0 is 0, a NaN is not."""

    def value_and_gradient(self, x, coefficients):
        value, gradient = super().value_and_gradient(x, coefficients)
        return value, gradient + torch.zeros(len(x), len(x)) @ (x * x * x * x)


@Faulty
class CutGraph(Quadratic):
    def value_and_gradient(self, x, coefficients):
        return super().value_and_gradient(x.detach(), coefficients)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> torch.Tensor:
        return slopes[0]


@Faulty
class FalseBackward(Quadratic):
    oracle: str = "value"

    def value(self, x, coefficients):
        return _Straight.apply(super().value(x, coefficients))


@Faulty
class FalseGradient(Rosenbrock):
    def value_and_gradient(self, x, coefficients):
        value, gradient = super().value_and_gradient(x, coefficients)
        return value, gradient * 1.01


@Faulty
class BranchOnData(Quadratic):
    def value_and_gradient(self, x, coefficients):
        if x.abs().max() > 1e9:
            x = x / 2
        return super().value_and_gradient(x, coefficients)


@struct
class Leaky(Problem):
    """A problem that tells."""

    goal: torch.Tensor


@Faulty
class SharedOptimum(LeastSquares):
    def sample(self, keys):
        instance = super().sample(keys)
        told = Leaky(**vars(instance.problem), goal=instance.hidden.optimum.view(-1, 10))
        return dataclasses.replace(instance, problem=told)


@Faulty
class CopiedOptimum(LeastSquares):
    def sample(self, keys):
        instance = super().sample(keys)
        told = Leaky(**vars(instance.problem), goal=instance.hidden.optimum.clone())
        return dataclasses.replace(instance, problem=told)


class Opaque:
    """No struct: nothing that a snapshot can write."""


@struct
class Closed:
    """A memory that holds something opaque."""

    inner: Any
    box: Any


@Faulty
class NotRestorable(Quadratic):
    """Keeps an object in its state."""

    def sample(self, keys):
        instance = super().sample(keys)
        return dataclasses.replace(instance, hidden=Closed(inner=instance.hidden, box=Opaque()))

    def answer(self, state: State, action: Action) -> Answer:
        return super().answer(dataclasses.replace(state, hidden=state.hidden.inner), action)


@Faulty
class WrongClock(Quadratic):
    def answer(self, state: State, action: Action) -> Answer:
        return super().answer(state, action)

    def step(self, state: State, action: Action) -> State:
        after = super().step(state, action)
        return dataclasses.replace(after, k=after.k + 1)


@Faulty
class WrongReward(Quadratic):
    def step(self, state: State, action: Action) -> State:
        after = super().step(state, action)
        return dataclasses.replace(after, reward=after.merit)


@Faulty
class BilledEvaluation(Quadratic):
    @property
    def evaluation_period(self):
        return 2

    def evaluate(self, state: State) -> State:
        return dataclasses.replace(state, calls=state.calls.bill({"value": 1}))


@Faulty
class StartOutside(Quadratic):
    bounds: Any = (-0.01, 0.01)

    def sample(self, keys):
        instance = super().sample(keys)
        return dataclasses.replace(instance, start=instance.start + 1)


@Faulty
class ScalarSpace(Quadratic):
    def observation_fields(self):
        return super().observation_fields() | {"value": box((), self.dtype)}


@Faulty
class FalseSlope(Program):
    """The Lagrangian's Hessian without the multipliers of the second constraint."""

    def menu(self):
        kinds = super().menu()
        right = kinds["product"]

        def fn(state, query):
            x, vector = query["x"], query["vector"]
            return (state.hidden + x**2 + 2 * query["multipliers"][:, :1]) * vector

        return kinds | {"product": dataclasses.replace(right, fn=fn)}


@Faulty
class OtherInCompany(Program):
    """A value that is another one where the gradient is asked with it."""

    def menu(self):
        kinds = super().menu()
        right = kinds["value"]

        def fn(state, query):
            return right.fn(state, query) * (1.01 if "gradient" in query.kinds else 1.0)

        return kinds | {"value": dataclasses.replace(right, fn=fn)}


@Faulty
class TellsNoMenu(Program):
    def sample(self, keys):
        instance = super().sample(keys)
        offer = dataclasses.replace(self.card.offer, kinds=("value",))
        return dataclasses.replace(instance, problem=dataclasses.replace(instance.problem, menu=offer))


FAULTS: dict[type[OptimizationEnv], str] = {
    AsksTwice: "ledger",
    BatchInstance: "instances",
    BilledEvaluation: "evaluation",
    BranchOnData: "vmap",
    ColumnMetric: "shapes",
    CopiedOptimum: "secrets",
    CutGraph: "gradients",
    DoubleBill: "ledger",
    DoubleMerit: "shapes",
    EarlyEnd: "budget",
    EndlessBudget: "budget",
    FalseBackward: "gradients",
    FalseGradient: "oracle",
    FalseSlope: "slopes",
    FreeGradient: "ledger",
    GlobalNoise: "global_randomness",
    InPlaceOnce: "purity",
    InPlaceStep: "purity",
    MixedRows: "independence",
    NotRestorable: "restore",
    NumpySeeding: "global_randomness",
    OtherInCompany: "menu",
    OutsideItsSpace: "observations",
    RemembersOnItself: "restore",
    ScalarSpace: "declarations",
    SharedOptimum: "secrets",
    SilentNaN: "divergence",
    SpreadsNaN: "divergence",
    StartOutside: "start",
    TellsNoMenu: "menu",
    UndeclaredField: "observations",
    WrongClock: "time",
    WrongReward: "reward",
}
"""The check that must name each."""

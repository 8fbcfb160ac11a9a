"""The wrappers: every one keeps the contract, nests, and means what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core import OptimizationEnv, UnknownKeyword, keys_from_seed
from optenvs.core.random import normal
from optenvs.faces.vector import TorchVectorEnv
from optenvs.wrappers import (
    CoordinateFeatures,
    Displacement,
    Reparametrise,
    StepSizeControl,
    TimeFeatures,
    Wrapper,
)

QUADRATIC = optenvs.make("Quadratic", dim=4, budget=101)
ROSENBROCK = optenvs.make("Rosenbrock", dim=3, budget=40, bounds="domain")
SHIFTED = optenvs.make("Quadratic", dim=3, shift=1.0, rotate=True, noise=0.1)
DIGITS = optenvs.make("TrainDigits", samples=200, epochs=2)

WRAPPED = [
    Wrapper(QUADRATIC),
    Displacement(QUADRATIC),
    Displacement(QUADRATIC, scale=0.1, limit=1.0),
    Displacement(ROSENBROCK),
    Displacement(DIGITS),
    Reparametrise(QUADRATIC),
    Reparametrise(SHIFTED, level="coordinate"),
    Reparametrise(ROSENBROCK, scale=0.5),
    Reparametrise(QUADRATIC.replace(oracle="value"), scale=2.0),
    Reparametrise(DIGITS),
    Reparametrise(optenvs.make("LogSumExp", dim=3, budget=40), scale=(0.5, 2.0), level="coordinate"),
    CoordinateFeatures(QUADRATIC),
    CoordinateFeatures(QUADRATIC, kind="log_sign"),
    CoordinateFeatures(DIGITS),
    TimeFeatures(QUADRATIC),
    TimeFeatures(optenvs.make("Quadratic", budget=None)),
    TimeFeatures(CoordinateFeatures(Displacement(Reparametrise(QUADRATIC)))),
]


@pytest.mark.parametrize("env", WRAPPED, ids=lambda env: env.name)
def test_checker_passes(env: OptimizationEnv) -> None:
    report = optenvs.check(env)
    assert set(report.skipped) <= {"oracle", "menu", "slopes"}


@pytest.mark.parametrize("env", WRAPPED, ids=lambda env: env.name)
def test_ledger_metrics_and_time_pass_through(env: Wrapper) -> None:
    keys = keys_from_seed(5, 3)
    outer, inner = env.reset(keys), env.env.reset(keys)
    assert (env.horizon, env.limits) == (env.env.horizon, env.env.limits)
    assert env.evaluations == env.env.evaluations
    first = env.sample(keys).start
    outer = env.step(outer, first)
    inner = env.env.step(inner, env.env.sample(keys).start)
    assert torch.equal(outer.calls.counts, inner.calls.counts)
    assert set(outer.metrics) - {"outside"} == set(inner.metrics) - {"outside"}
    for name, value in inner.metrics.items():
        if name == "outside":  # of the wrapper's own bounds
            continue
        torch.testing.assert_close(outer.metrics[name], value, equal_nan=True)


def test_plain_wrapper_changes_nothing() -> None:
    agent = agents.SGD(lr=0.3, momentum=0.5)
    plain = optenvs.rollout(QUADRATIC, agent, seed=1, batch=4, record=("gradient",))
    wrapped = optenvs.rollout(Wrapper(QUADRATIC), agent, seed=1, batch=4, record=("gradient",))
    assert torch.equal(plain.merit, wrapped.merit)
    assert torch.equal(plain.reward, wrapped.reward)
    assert torch.equal(plain.recorded["gradient"], wrapped.recorded["gradient"])


def test_keywords_reach_the_environment_inside() -> None:
    env = Displacement(Reparametrise(QUADRATIC, scale=2.0), scale=0.5)
    changed = env.replace(budget=11, scale=0.25, dtype="float64")
    assert (changed.horizon, changed.budget, changed.scale, changed.dtype) == (10, 11, 0.25, "float64")
    assert changed.env.scale == 2.0  # the outermost that knows a keyword takes it
    assert changed.reset(keys_from_seed(0, 2)).merit.dtype == torch.float64
    assert env.unwrapped is QUADRATIC
    with pytest.raises(UnknownKeyword, match="dimension"):
        env.replace(dimension=3)


def test_displacement_is_from_the_last_point() -> None:
    env = Displacement(QUADRATIC, scale=0.1)
    state = env.reset(keys_from_seed(0, 2))
    start = state.observation["point"]
    for step in (1, 2):
        state = env.step(state, torch.ones(2, 4))
        torch.testing.assert_close(state.observation["point"], start + 0.1 * step)
    at_point = QUADRATIC.step(QUADRATIC.reset(state.key), state.observation["point"])
    torch.testing.assert_close(state.merit, at_point.merit)


def test_displacement_projects_onto_bounds() -> None:
    env = Displacement(ROSENBROCK)
    state = env.step(env.reset(keys_from_seed(0, 2)), torch.full((2, 3), 100.0))
    assert torch.equal(state.observation["point"], torch.full((2, 3), 2.048))


def test_displacement_trains_in_faces() -> None:
    env = Displacement(QUADRATIC, limit=0.5)
    assert env.action_space.is_bounded()
    face = TorchVectorEnv(env, 3)
    before, _ = face.reset(seed=0)
    after, reward, *_ = face.step(-0.5 * np.sign(before["point"].numpy()))
    assert (reward > 0).all()
    torch.testing.assert_close((after["point"] - before["point"]).abs(), torch.full((3, 4), 0.5))


def test_unroll_goes_through_wrappers() -> None:
    env = Displacement(Reparametrise(QUADRATIC, scale=3.0))

    class Policy:
        def __init__(self) -> None:
            self.rate = torch.tensor(0.05, requires_grad=True)

        def init(self, problem, observation, keys):
            return ()

        def act(self, state, observation):
            return -self.rate * observation["gradient"], state

    def loss(shift: float) -> torch.Tensor:
        policy = Policy()
        policy.rate.data += shift
        run = optenvs.unroll(env.replace(dtype="float64"), policy, seed=0, batch=3, steps=5)
        total = run.metrics["value"].sum()
        total.backward()
        return total.detach(), policy.rate.grad

    (above, _), (below, _), (_, slope) = loss(1e-4), loss(-1e-4), loss(0.0)
    assert slope == pytest.approx(((above - below) / 2e-4).item(), rel=1e-3)


@pytest.mark.parametrize(
    "env",
    [Displacement(ROSENBROCK.replace(dim=2)), StepSizeControl(QUADRATIC, agents.SGD(), repeat=2)],
    ids=lambda env: env.name,
)
def test_pictures_are_those_of_the_environment_inside(env: Wrapper) -> None:
    states = [env.reset(keys_from_seed(0, 1))]
    for _ in range(3):
        states.append(env.step(states[-1], 0.01 * torch.ones(1, *env.action_space.shape)))
    image = env.picture(states)
    assert image.dtype == np.uint8 and image.ndim == 3
    assert np.array_equal(image, env.env.picture([env.inner(state) for state in states]))
    assert not np.array_equal(image, env.picture(states[:2]))


def test_scales_are_log_uniform_and_the_instances_own() -> None:
    env = Reparametrise(QUADRATIC)
    scale = env.reset(keys_from_seed(0, 4000)).hidden.memory.scale
    assert scale.shape == (4000, 1)
    logs = (scale.log10().flatten() + 2) / 4  # uniform on [0, 1) if c is log-uniform on [0.01, 100)
    assert logs.min() >= 0 and logs.max() <= 1
    assert logs.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert logs.var() == pytest.approx(1 / 12, rel=0.1)
    each = Reparametrise(QUADRATIC, level="coordinate").reset(keys_from_seed(0, 5)).hidden.memory.scale
    assert each.shape == (5, 4) and (each[:, 0] != each[:, 1]).all()


def test_reparametrised_box_and_hvp() -> None:
    env = Reparametrise(ROSENBROCK, scale=0.5)
    assert env.action_space.high == pytest.approx(4.096)
    torch.testing.assert_close(env.reset(keys_from_seed(0, 1)).problem.upper, torch.full((1, 3), 4.096))
    core = optenvs.make("Quadratic", dim=3, oracle="hvp", dtype="float64")
    scaled, keys = Reparametrise(core, scale=3.0), keys_from_seed(0, 2)
    vector = normal(keys, "vector", 3, dtype=torch.float64)
    point = core.sample(keys).start["point"]
    plain = core.step(core.reset(keys), {"point": point, "vector": vector})
    seen = scaled.step(scaled.reset(keys), {"point": point / 3, "vector": vector})
    torch.testing.assert_close(seen.observation["hvp"], 9 * plain.observation["hvp"])
    torch.testing.assert_close(seen.observation["gradient"], 3 * plain.observation["gradient"])


@pytest.mark.parametrize("level", ["global", "coordinate"])
@pytest.mark.parametrize("kind", ["exact", "fisher_term"])
def test_newtons_steps_are_the_same_in_other_units(level: str, kind: str) -> None:
    core = optenvs.make("PowerResidual", dim=4, rows=6, hessian=kind, tolerance=None)
    scaled, keys = Reparametrise(core, scale=(0.1, 10.0), level=level), keys_from_seed(0, 5)
    states = core.reset(keys), scaled.reset(keys)
    scale = states[1].hidden.memory.scale
    assert torch.allclose(scale * states[1].observation["point"], states[0].observation["point"])
    moved = []
    for env, state in zip((core, scaled), states, strict=True):
        x = state.observation["point"]
        vector = x + 1 if env is core else x + 1 / scale
        query = state.problem.menu.query(dict.fromkeys(core.oracles, True), point=x, vector=vector)
        seen = env.step(state, query).observation
        assert torch.equal(seen["vector"], vector)
        assert torch.equal(seen["answered"], torch.ones_like(seen["answered"]))
        assert torch.allclose((seen["hessian"] @ vector.unsqueeze(-1)).squeeze(-1), seen["hvp"])
        if kind == "fisher_term":
            assert torch.allclose(seen["factor"].mT @ seen["factor"], seen["hessian"])
        whole = seen["hessian"] + 0.5 * state.problem.metric
        moved.append(x - torch.linalg.solve(whole, seen["gradient"]))
    assert torch.allclose(scale * moved[1], moved[0])
    assert not torch.allclose(moved[1], moved[0])


def test_a_box_that_is_open_on_one_side_is_rescaled() -> None:
    ends = ((-1.0, -float("inf"), 0.5), (float("inf"), 3.0, 4.0))
    core = optenvs.make("Rosenbrock", dim=3, bounds=ends, budget=9)
    space = Reparametrise(core, scale=0.25).action_space
    assert space.low.tolist() == [-4.0, -float("inf"), 2.0]
    assert space.high.tolist() == [float("inf"), 12.0, 16.0]
    with pytest.raises(ValueError, match="has bounds, which would differ between instances"):
        Reparametrise(core)


def test_features_are_normalised_tensor_by_tensor() -> None:
    env = CoordinateFeatures(DIGITS)
    state = env.reset(keys_from_seed(0, 2))
    sizes = [slot.size for slot in DIGITS.network.layout]
    features = state.observation["features"]
    assert features.shape == (2, DIGITS.network.size, 19)
    for column, name in enumerate(("gradient", "point")):
        parts = state.observation[name].split(sizes, dim=1)
        expected = [x * torch.rsqrt(1e-5 + x.square().mean(1, keepdim=True)) for x in parts]
        torch.testing.assert_close(features[..., column], torch.cat(expected, 1), rtol=1e-4, atol=1e-6)
    assert torch.equal(features[:, :1, 8:].expand(-1, DIGITS.network.size, -1), features[..., 8:])
    torch.testing.assert_close(features[0, 0, 8], torch.tanh(torch.tensor(-1.0)))


def test_momenta_follow_the_gradients() -> None:
    env = CoordinateFeatures(QUADRATIC)
    state = env.reset(keys_from_seed(0, 2))
    momentum = 0.1 * state.observation["gradient"]
    for step in range(3):
        state = env.step(state, state.observation["point"] + 0.1 * (step + 1))
        momentum = 0.9 * momentum + 0.1 * state.observation["gradient"]
    normalised = momentum * torch.rsqrt(1e-5 + (momentum**2).mean(1, keepdim=True))
    torch.testing.assert_close(state.observation["features"][..., 4], normalised)


def test_time_features() -> None:
    env = TimeFeatures(QUADRATIC)
    state = env.reset(keys_from_seed(0, 1))
    for _ in range(10):
        state = env.step(state, state.observation["point"])
    time = state.observation["time"][0]
    assert time[0] == pytest.approx(10 / 100)
    assert time[3] == 0  # tanh(10 / 10 - 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wrapper(3), "env: expected a problem .* an id, or an environment of optenvs .* got int"),
        (lambda: Displacement(QUADRATIC, scale=0.0), "scale: expected a number > 0"),
        (lambda: Displacement(QUADRATIC, limit=-1.0), "limit: expected a number > 0 or None"),
        (lambda: Displacement(QUADRATIC.replace(oracle="hvp")), "Displacement: needs one query field"),
        (lambda: CoordinateFeatures(QUADRATIC, kind="lstm"), "kind: expected one of log_sign, lolv2"),
        (lambda: CoordinateFeatures(QUADRATIC.replace(oracle="value")), "answers no 'gradient'"),
        (lambda: Reparametrise(QUADRATIC, scale=(2.0, 1.0)), "scale: expected a number > 0 or a pair"),
        (lambda: Reparametrise(QUADRATIC, level="layer"), "level: expected one of global, tensor"),
        (lambda: Reparametrise(ROSENBROCK), "has bounds, which would differ between instances"),
        (lambda: Reparametrise(DIGITS.replace(oracle="minibatch")), "cannot rescale TrainDigits"),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


class Unlike(type(QUADRATIC)):  # type: ignore[misc]
    """Declares everything otherwise than an environment does by default."""

    fixed_cost = False
    ends = True
    differentiable = False
    vectorizable = False
    bounded_below = False
    measures_merit = True
    evaluation_period = (2, 5)
    live = ("point",)
    first_bill = property(lambda self: {"gradient": 0, "value": 0})
    least_bill = property(lambda self: {"gradient": 1})


OWN = {"action_space", "observation_space", "name", "painter", "configuration", "env", "unwrapped"}
"""What a wrapper has of its own: it is made of what passes through."""


def test_every_declaration_passes_through() -> None:
    inner = Unlike(dim=4, budget=101)
    outer = Wrapper(inner)
    declared = [
        name
        for name in dir(OptimizationEnv)
        if not name.startswith("_") and name not in OWN and not callable(getattr(OptimizationEnv, name))
    ]
    assert {"fixed_cost", "ends", "evaluations", "least_bill", "horizon", "time_fields"} <= set(declared)
    for name in declared:
        assert getattr(outer, name) == getattr(inner, name), name

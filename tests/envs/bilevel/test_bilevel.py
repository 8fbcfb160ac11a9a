"""Problems of two levels: their slopes, their closed forms, and what is said of a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.bilevel.base import Bilevel

BATCH = 3
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "toy": ("BilevelToy", {"dim": 4}),
    "toy, bilinear": ("BilevelToy", {"dim": 4, "objective": "bilinear"}),
    "toy, cubes": ("BilevelToy", {"dim": 4, "coupling": "cubes"}),
    "inequality": ("BilevelInequality", {}),
    "strong": ("BilevelStrong", {"dim": 6, "equations": 4, "upper_equations": 2}),
}


@pytest.fixture(params=FORMS)
def env(request: pytest.FixtureRequest) -> Bilevel:
    name, keywords = FORMS[request.param]
    made = optenvs.make(name, tolerance=None, **keywords)
    assert isinstance(made, Bilevel)
    return made


class Asked:
    """An environment at random places, and what it answers to one kind there."""

    def __init__(self, env: Bilevel, seed: int = 1) -> None:
        self.env, generator = env, torch.Generator().manual_seed(seed)
        self.state = env.reset(keys_from_seed(seed, BATCH))
        shapes = {name: shape for name, shape, _ in env.card.offer.places}
        self.places = {
            name: torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)
            for name, shape in shapes.items()
        }

    def __call__(self, kind: str, **places: Tensor) -> Tensor:
        query = self.env.card.offer.query({kind: True}, **(self.places | places))
        return self.env.step(self.state, query).observation[kind]

    def slope(self, function: Callable[[Tensor], Tensor], at: str) -> Tensor:
        """Central differences of a number by one place, ``(B, n)``."""
        place, step, columns = self.places[at], 1e-6, []
        for i in range(place.shape[1]):
            moved = torch.zeros_like(place)
            moved[:, i] = step
            columns.append((function(place + moved) - function(place - moved)) / (2 * step))
        return torch.stack(columns, -1)


def near(one: Tensor, other: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "value", "y"),
    [
        ("upper_gradient", "upper", "y"),
        ("lower_gradient", "lower", "y"),
        ("inner_gradient", "inner_lower", "inner"),
    ],
)
def test_a_gradient_is_the_slope_of_its_value_by_both_variables(
    env: Bilevel, kind: str, value: str, y: str
) -> None:
    asked = Asked(env)
    parts = [asked.slope(lambda at, n=name: asked(value, **{n: at}).squeeze(-1), name) for name in ("x", y)]
    near(asked(kind), torch.cat(parts, -1))


@pytest.mark.parametrize(
    ("kind", "value", "y", "along"),
    [
        ("pullback", "constraints", "y", "multipliers"),
        ("inner_pullback", "inner_constraints", "inner", "inner_multipliers"),
    ],
)
def test_a_pullback_is_the_slope_of_the_constraints_along_the_multipliers(
    env: Bilevel, kind: str, value: str, y: str, along: str
) -> None:
    asked = Asked(env)

    def function(**places: Tensor) -> Tensor:
        return (asked.places[along] * asked(value, **places)).sum(-1)

    parts = [asked.slope(lambda at, n=name: function(**{n: at}), name) for name in ("x", y)]
    near(asked(kind), torch.cat(parts, -1))


def test_the_product_is_the_slope_of_the_lower_lagrangians_gradient(env: Bilevel) -> None:
    asked, n = Asked(env), env.sizes.n

    def function(**places: Tensor) -> Tensor:
        slope = asked("lower_gradient", **places) + asked("pullback", **places)
        return (slope[:, n:] * asked.places["vector"]).sum(-1)

    parts = [asked.slope(lambda at, n=name: function(**{n: at}), name) for name in ("x", "y")]
    near(asked("product"), torch.cat(parts, -1))
    there = {"y": asked.places["inner"]}
    if env.sizes.p:
        there["multipliers"] = asked.places["inner_multipliers"]
    near(asked("inner_product"), asked("product", **there), 0)


def test_written_slopes_are_the_inherited_ones(env: Bilevel) -> None:
    asked = Asked(env)
    own, x, y = env.own(asked.state), asked.places["x"], asked.places["y"]
    multipliers, vector = asked.places["multipliers"], asked.places["vector"]
    for name, arguments in {
        "upper_slope": (own, x, y),
        "lower_slope": (own, x, y),
        "pull": (own, x, y, multipliers),
        "second": (own, x, y, multipliers, vector),
    }.items():
        near(getattr(env, name)(*arguments), getattr(Bilevel, name)(env, *arguments), 1e-12)


def test_the_solution_is_stationary_and_feasible(env: Bilevel) -> None:
    asked, n, m = Asked(env), env.sizes.n, env.sizes.m
    x = asked.state.problem.geometry.upper(asked.places["x"])
    y, multipliers = asked("solution", x=x).split((m, env.sizes.p), -1)
    slope = asked("lower_gradient", x=x, y=y) + asked("pullback", x=x, y=y, multipliers=multipliers)
    near(slope[:, n:], torch.zeros_like(y), 1e-10)
    assert float(asked.state.problem.geometry.violation(asked("constraints", x=x, y=y)).max()) < 1e-10
    state = env.step(asked.state, env.card.offer.query({"upper": True}, x=x, y=y))
    near(state.metrics["distance"], torch.zeros_like(state.merit), 1e-10)
    near(state.metrics["lower_gap"], torch.zeros_like(state.merit), 1e-10)
    near(state.metrics["value"], state.metrics["upper_value"], 1e-10)
    if "gap" in state.metrics:
        assert float(state.metrics["gap"].min()) >= -1e-12


def test_the_hypergradient_is_the_slope_of_phi(env: Bilevel) -> None:
    asked = Asked(env)

    def phi(x: Tensor) -> Tensor:
        query = env.card.offer.query({"upper": True}, x=x, y=asked.places["y"])
        return env.step(asked.state, query).metrics["value"]

    x = asked.state.problem.geometry.upper(asked.places["x"])
    asked.places["x"] = 0.9 * x  # a difference stays within a box
    near(asked("hypergradient"), asked.slope(phi, "x"))


def test_projections_are_nearest_points(env: Bilevel) -> None:
    asked = Asked(env, seed=2)
    geometry, x, y = asked.state.problem.geometry, 3 * asked.places["x"], asked.places["y"]
    near(geometry.upper(geometry.upper(x)), geometry.upper(x), 1e-12)
    inside = geometry.upper(x)
    held = geometry.feasible(inside, y)
    assert float(geometry.violation(asked("constraints", x=inside, y=held)).max()) < 1e-10
    generator = torch.Generator().manual_seed(0)
    others = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for _ in range(50)]
    for other in others:
        other = geometry.feasible(inside, y + other)
        assert bool(((y - held).norm(dim=-1) <= (y - other).norm(dim=-1) + 1e-12).all())
    if "joint" not in geometry.has:
        with pytest.raises(NotImplementedError, match="the projection 'joint' is not known"):
            geometry.joint(x, y)
        return
    u, v = geometry.joint(x, y)
    assert float(geometry.violation(asked("constraints", x=u, y=v)).max()) < 1e-10
    near(geometry.upper(u), u, 1e-10)
    distance = torch.cat((x - u, y - v), -1).norm(dim=-1)
    for other in others:
        a, b = geometry.joint(x + other[:, :1], y + other)
        assert bool((distance <= torch.cat((x - a, y - b), -1).norm(dim=-1) + 1e-12).all())


def test_the_bill_has_a_name_for_each_kind_and_derivatives(env: Bilevel) -> None:
    assert env.bill["derivatives"] == 10  # five gradients and pullbacks, two products at 2, one hypergradient
    assert {kind: env.bill[kind] for kind in env.oracles} == dict.fromkeys(env.oracles, 1)
    state = env.reset(keys_from_seed(0, 1))
    assert int(state.calls["derivatives"]) == 0


def test_slopes_are_told_in_memory_that_is_nobody_elses(env: Bilevel) -> None:
    """They are not copied."""
    asked, fresh = Asked(env), [name for name, kind in env.card.kinds.items() if kind.fresh]
    assert {"upper_gradient", "lower_gradient", "inner_gradient"} <= set(fresh)
    query = env.card.offer.query(dict.fromkeys(fresh, True), **asked.places)
    with torch.no_grad():
        shown = env.step(asked.state, query).observation
        kept = {name: part.clone() for name, part in shown.items()}
        for name in fresh:
            shown[name].fill_(torch.nan)
            others = kept.keys() - set(fresh[: fresh.index(name) + 1])
            assert all(torch.equal(shown[other], kept[other]) for other in others)
        again = env.step(asked.state, query).observation
    assert all(torch.equal(again[name], kept[name]) for name in fresh)


@pytest.mark.parametrize("objective", ["matching", "bilinear"])
@pytest.mark.parametrize("coupling", ["sum", "cubes"])
def test_the_toys_metrics_are_those_of_its_solution(objective: str, coupling: str) -> None:
    """They are found in sums, without one."""
    env = optenvs.make("BilevelToy", dim=4, tolerance=None, objective=objective, coupling=coupling)
    assert isinstance(env, Bilevel)
    asked = Asked(env)
    (x, y), own = (asked.places["x"], asked.places["y"]), env.own(asked.state)
    query = env.card.offer.query({"inner_gradient": True}, **asked.places)
    told, found = env.step(asked.state, query).metrics, env.solve(own, x)
    near(told["value"], env.upper(own, x, found.y), 1e-12)
    near(told["lower_gap"], env.lower(own, x, y) - env.lower(own, x, found.y), 1e-12)
    near(told["infeasibility"], env.constrain(own, x, y).abs().squeeze(-1), 1e-12)
    off = (y - found.y)[:, 4:].sum(-1) / 2  # the nearest solution moves all of y2 alike
    near(told["distance"], torch.hypot((y - found.y)[:, :4].norm(dim=-1), off), 1e-12)
    assert told["multiplier"].tolist() == [1.0] * BATCH


def test_the_toys_optimum_is_the_published_one() -> None:
    env = optenvs.make("BilevelToy", dim=5)
    state = env.reset(keys_from_seed(0, 1))
    x = torch.full((1, 5), -0.3, dtype=torch.float64)
    y = torch.cat((torch.full_like(x, 0.7), torch.full_like(x, -0.4)), -1)
    state = env.step(state, state.problem.menu.query({"upper": True}, x=x, y=y))
    assert float(state.observation["upper"]) == pytest.approx(0.25)
    assert float(state.merit) == pytest.approx(0, abs=1e-12)
    assert bool(state.terminated)


def test_a_small_bound_of_the_multipliers_is_told() -> None:
    env = optenvs.make("BilevelToy", dim=2, bound=0.5)
    state = env.reset(keys_from_seed(0, 2))
    assert state.metrics["short"].tolist() == [1, 1]
    assert state.metrics["multiplier"].tolist() == [1, 1]
    assert env.replace(bound=1.5).reset(keys_from_seed(0, 1)).metrics["short"].tolist() == [0]


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("BilevelToy", {"dim": 0}, "dim: expected a whole number >= 1, got 0"),
        ("BilevelToy", {"objective": "both"}, "objective: expected one of matching, bilinear, got 'both'"),
        ("BilevelToy", {"data": {"x": [1.0]}}, r"data: x: expected finite numbers of shape \(100,\)"),
        ("BilevelToy", {"data": {"z": [1.0]}}, "data: no 'z'"),
        ("BilevelToy", {"bound": -1.0}, "bound: expected a number > 0 or None, got -1.0"),
        ("BilevelToy", {"start": "zero", "start_std": 2.0}, "start_std: only a normal start has one"),
        ("BilevelInequality", {"data": {"x": [1.0]}}, "data: y: missing"),
        ("BilevelInequality", {"data": {"x": [1.0], "y": [float("nan")]}}, "numbers that are not finite"),
    ],
)
def test_bad_keywords_are_named(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make(name, **keywords)

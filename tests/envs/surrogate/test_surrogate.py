"""What surrogates answer and bill, against loops over one instance and one point at a time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from surrogate_problems import TanhDisc
from torch import Tensor

import optenvs
from optenvs.core.env import State
from optenvs.core.random import integers, keys_from_seed, normal, uniform
from optenvs.envs.surrogate.parts import WORST
from optenvs.envs.surrogate.relu_box import ReluBox

BATCH, POINTS, SIZE = 40, 5, 3
ORACLES = ("value", "vjp", "jacobian")


def disc(**keywords: Any) -> TanhDisc:
    return TanhDisc(**({"points": POINTS, "budget": None} | keywords))


def query(env: TanhDisc, seed: int = 0, spread: float = 0.8) -> dict[str, Tensor]:
    """Random points, of which some are asked, with thresholds that some of them are below."""
    keys = keys_from_seed(seed, BATCH)
    f64 = {"dtype": torch.float64}
    asked = {
        "points": spread * normal(keys, "points", (POINTS, SIZE), **f64),
        "count": integers(keys, "count", 1, POINTS + 1),
        "threshold": uniform(keys, "threshold", 1, low=-1.0, high=0.3, **f64),
    }
    if not env.penalised:
        asked["allowance"] = uniform(keys, "allowance", 1, low=0.0, high=0.3, **f64)
    if env.oracle != "value":
        asked["base"] = 0.3 * normal(keys, "base", SIZE, **f64)
    if env.oracle == "vjp":
        wanted = integers(keys, "wanted", 1, 2)
        asked["cotangent"] = wanted * normal(keys, "cotangent", env.output_count, **f64)
    return asked


def one(env: TanhDisc, state: State, row: int, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Value, constraints and failure of one point, from the definitions."""
    y = torch.tanh(state.hidden.data[row] @ x)
    c = torch.stack(((x * x).sum() - 1, y[0] - 0.4))
    f = (y * y).sum() + y[0]
    failed = bool(x[0] > env.edge)
    z = c.clamp_min(0)
    return (-f + (z * z).sum()) if env.penalised else -f, c, failed


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
def test_a_poll_is_answered_and_billed_to_the_first_success(formulation: str) -> None:
    env = disc(formulation=formulation, edge=0.9)
    before = env.reset(keys_from_seed(0, BATCH))
    asked = query(env)
    after = env.step(before, asked)
    seen, bill = after.observation, after.calls.counts - before.calls.counts
    lengths, failures, successes = set(), 0, 0
    for row in range(BATCH):
        count, low = int(asked["count"][row]), asked["threshold"][row, 0]
        points, merits = 0, []
        for i in range(count):
            value, c, failed = one(env, before, row, asked["points"][row, i])
            points += 1
            assert int(seen["evaluated"][row, i]) == 1
            assert int(seen["failed"][row, i]) == failed
            failures += failed
            assert float(seen["value"][row, i]) == pytest.approx(WORST if failed else float(value))
            if not failed and not env.penalised:
                assert torch.allclose(seen["constraints"][row, i], c)
            h = float(c.clamp_min(0).square().sum())
            merits.append(WORST if failed else float(value) if env.penalised or h == 0 else 1 + h / (1 + h))
            success = not failed and value < low
            if success and (env.penalised or h <= float(asked["allowance"][row, 0])):
                successes += 1
                break
        assert int(bill[row, 0]) == points  # value: the paper's cost
        assert int(bill[row, 1]) == count  # forward: all go through the network
        assert int(seen["evaluated"][row].sum()) == points
        # what is not answered says nothing
        for field in ("value", "outputs", "failed", *(() if env.penalised else ("constraints",))):
            assert not seen[field][row, points:].any()
        lengths.add((count, points))
        expected = float(before.metrics["best"][row])
        if merits:
            assert float(after.metrics["best"][row]) == pytest.approx(min(*merits, expected))
        else:
            assert float(after.metrics["best"][row]) == expected
    assert failures and successes and len(lengths) > 10


def test_hidden_rows_depend_on_nothing() -> None:
    env = disc()
    before, asked = env.reset(keys_from_seed(0, BATCH)), query(env)
    seen = env.step(before, asked).observation
    hidden = seen["evaluated"] == 0
    other = asked | {"points": torch.where(hidden.unsqueeze(-1), 0.123, asked["points"])}
    again = env.step(before, other).observation
    for field in ("value", "outputs", "failed", "evaluated"):
        assert torch.equal(seen[field], again[field])
    assert hidden.any() and not hidden.all()


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
@pytest.mark.parametrize("grad", [False, True])
def test_products_and_jacobians_are_those_of_autograd(formulation: str, grad: bool) -> None:
    keys = keys_from_seed(0, BATCH)
    made = {oracle: disc(oracle=oracle, formulation=formulation) for oracle in ("vjp", "jacobian")}
    asked = query(made["vjp"])
    with torch.set_grad_enabled(grad):
        states = {oracle: env.step(env.reset(keys), asked) for oracle, env in made.items()}
    data = states["vjp"].hidden.data
    count = 4 if formulation == "penalty" else 2
    for row in range(BATCH):

        def outputs(x: Tensor, row: int = row) -> Tensor:
            y = torch.tanh(data[row] @ x)
            z = torch.stack(((x * x).sum() - 1, y[0] - 0.4)).clamp_min(0)
            return torch.cat((y, z))[:count]

        jacobian = torch.autograd.functional.jacobian(outputs, asked["base"][row])
        product = asked["cotangent"][row] @ jacobian
        assert torch.allclose(states["vjp"].observation["vjp"][row], product, atol=1e-12)
        assert torch.allclose(states["jacobian"].observation["jacobian"][row], jacobian, atol=1e-12)
    wanted = (asked["cotangent"] != 0).any(-1)
    assert torch.equal(states["vjp"].calls["vjp"], wanted.long())
    assert 0 < int(wanted.sum()) < BATCH
    # the query of reset asks for one
    assert (states["jacobian"].calls["jacobian"] == 2).all()


def test_a_query_of_a_product_alone_changes_no_merit() -> None:
    env = disc(oracle="vjp")
    before = env.reset(keys_from_seed(0, BATCH))
    asked = query(env) | {"count": torch.zeros(BATCH, 1, dtype=torch.int64)}
    after = env.step(before, asked)
    assert torch.equal(after.merit, before.merit) and not after.reward.any()
    assert torch.equal(after.calls["value"], before.calls["value"])
    assert not after.diverged.any()


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
def test_failures_are_reported_and_never_the_best(formulation: str) -> None:
    env = disc(points=None, formulation=formulation, edge=0.0)
    keys = keys_from_seed(0, BATCH)
    start = env.reset(keys)
    bad = start.observation["point"].abs() + 0.01
    after = env.step(start, bad)
    assert after.metrics["failed"].eq(1).all() and after.observation["failed"].eq(1).all()
    assert after.observation["value"].eq(WORST).all()
    assert torch.equal(after.hidden.best_point, start.hidden.best_point)
    assert torch.equal(after.best, start.best) and not after.reward.any()
    assert not after.done.any()
    for field, seen in after.observation.items():
        assert seen.isfinite().all() or field == "N"
    # where the start has failed too, the next number is the best
    lost = start.observation["failed"].squeeze(-1) == 1
    assert lost.any() and not lost.all()
    good = env.step(after, -bad)
    assert (good.best < WORST).all() and (good.reward[lost] > 0).all()
    if formulation == "constraints":
        assert not after.metrics["feasible"][lost].any()


def test_infeasible_merits_are_above_feasible_ones() -> None:
    env = disc(points=None, formulation="constraints")
    keys = keys_from_seed(0, BATCH)
    state = env.reset(keys)
    merits, violations = [], []
    for seed in range(6):
        x = 1.2 * normal(keys_from_seed(seed, BATCH), "x", SIZE, dtype=torch.float64)
        state = env.step(state, x)
        merits.append(state.merit)
        violations.append(state.observation["constraints"].clamp_min(0).square().sum(-1))
        value = state.observation["value"].squeeze(-1)
        feasible = violations[-1] == 0
        assert torch.equal(state.merit[feasible], value[feasible])
    merit, violation = torch.cat(merits), torch.cat(violations)
    feasible = violation == 0
    assert feasible.sum() > 10 and (~feasible).sum() > 10
    assert merit[feasible].max() <= 1 < merit[~feasible].min()
    # the more a point violates, the worse it is
    order = violation[~feasible].argsort()
    assert (merit[~feasible][order].diff() >= 0).all() and merit.isfinite().all()


@pytest.mark.parametrize("oracle", ORACLES)
def test_an_open_network_answers_the_same(oracle: str) -> None:
    keys = keys_from_seed(0, BATCH)
    hidden, shown = disc(oracle=oracle), disc(oracle=oracle, white_box=True)
    asked = query(hidden)
    one_, two = hidden.reset(keys), shown.reset(keys)
    assert one_.problem.weights is None and one_.hidden.data is not None
    assert torch.equal(two.problem.weights, one_.hidden.data)
    assert two.hidden.data is None  # kept once
    left, right = hidden.step(one_, asked).observation, shown.step(two, asked).observation
    assert left.keys() == right.keys()
    assert all(torch.equal(left[field], right[field]) for field in left)
    # and the agent's own look is the oracle's
    outputs = two.problem.outputs(asked["points"])
    answered = right["evaluated"] > 0
    assert torch.allclose(outputs[answered], right["outputs"][answered])
    with pytest.raises(ValueError, match="white_box: the network of this problem is hidden"):
        one_.problem.outputs(asked["points"])


def test_the_slope_is_that_of_the_penalised_objective() -> None:
    env = disc(oracle="vjp")
    before, asked = env.reset(keys_from_seed(0, BATCH)), query(env)
    count, low = torch.full((BATCH, 1), POINTS), torch.full_like(asked["threshold"], -WORST)
    everything = {"count": count, "threshold": low}
    seen = env.step(before, asked | everything).observation
    slope = before.problem.slope(seen["outputs"][:, 0])
    product = env.step(before, asked | {"base": asked["points"][:, 0], "cotangent": slope}).observation["vjp"]
    with torch.enable_grad():
        x = asked["points"][:, 0].clone().requires_grad_()
        value = env.look(before.hidden.data, x.unsqueeze(1)).value.sum()
        (gradient,) = torch.autograd.grad(value, x)
    assert torch.allclose(product, -gradient, atol=1e-12)


def test_networks_of_relu_by_their_definition() -> None:
    env = ReluBox(dim=4, widths=(6, 5), budget=None)
    state = env.reset(keys_from_seed(0, 7))
    layers = state.hidden.data
    for row in range(7):
        x = state.observation["point"][row]
        for weight, bias in zip(layers.weight[:-1], layers.bias[:-1], strict=True):
            assert float(weight[row].abs().max()) <= 1 / weight.shape[-1] ** 0.5
            x = (weight[row] @ x + bias[row]).clamp_min(0)
        value = -(layers.weight[-1][row] @ x + layers.bias[-1][row])
        assert torch.allclose(state.observation["value"][row], value)


def test_points_outside_a_hard_box_are_invalid() -> None:
    env = gym.make("optenvs/ReluBox-v0", dim=3)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="action"):
        env.step(env.action_space.low - 0.1)
    free = gym.make("optenvs/Biodiesel-v0", surrogate="ode")
    free.reset(seed=0)
    free.step(free.unwrapped.action_space.sample())  # the penalty holds the box


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"points": 0}, "points: expected a whole number >= 1 or None"),
        ({"points": True}, "points"),
        ({"oracle": "hessian"}, "oracle: expected one of value, vjp, jacobian"),
        ({"oracle": "vjp", "points": None}, "points: oracle='vjp' needs a number of points"),
        ({"formulation": "barrier"}, "formulation: expected one of penalty, constraints"),
        ({"widths": ()}, "widths: expected whole numbers"),
        ({"dim": 0}, "dim: expected whole numbers"),
    ],
)
def test_bad_keywords_are_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReluBox(**keywords)


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
@pytest.mark.parametrize("oracle", [None, *ORACLES])
def test_it_keeps_the_contract(formulation: str, oracle: str | None) -> None:
    form: dict[str, Any] = {"points": None} if oracle is None else {"points": 3, "oracle": oracle}
    optenvs.check(disc(formulation=formulation, **form))

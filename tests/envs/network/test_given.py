"""What a user gives of a network: functions, centres, starts, events, rates in the order of the edges."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.network import functions
from optenvs.envs.network.rates import edge_rates
from optenvs.envs.network.verdict import RateWarning

KEYS = keys_from_seed(0, 2)
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
CURVES = (1.0, 2.0, 4.0, 10.0)
BOWLS = [lambda x, a=a, b=b: a * ((x - b) ** 2).sum() / 2 for a, b in zip(CURVES, CENTRES, strict=True)]
EVENTS = [(0.25, 0), (0.5, 3), (0.75, 0, 1), (1.0, 3, 2), (1.5, 1, 0), (1.75, 2)]


def quadratic(**keywords: Any) -> Any:
    return optenvs.make(
        "NetworkQuadratic", nodes=4, curvatures=CURVES, centres=CENTRES, t_max=30.0, **keywords
    )


def bowl(x: Any, own: Any) -> Any:
    return own["a"] * ((x - own["b"]) ** 2).sum() / 2


def given(kind: str, **keywords: Any) -> Any:
    solution = (torch.tensor(CURVES).double()[:, None] * CENTRES).sum(0) / sum(CURVES)
    keywords = {"dim": 2, "mu": 1.0, "L": 10.0, "solution": solution, "t_max": 30.0} | keywords
    if kind == "list":
        return optenvs.network_from_functions(BOWLS, **keywords)
    data = {"a": torch.tensor(CURVES), "b": CENTRES}
    return optenvs.network_from_functions(bowl, data=data, **keywords)


def test_the_examples_of_the_docstring_run() -> None:
    assert doctest.testmod(functions).failed == 0


@pytest.mark.parametrize("kind", ["list", "data"])
def test_functions_are_the_quadratics_that_they_are(kind: str) -> None:
    env = given(kind)
    assert optenvs.check(env).ok
    agent = agents.make("dadao")
    ours, theirs = (optenvs.rollout(core, agent, batch=2) for core in (env, quadratic()))
    torch.testing.assert_close(ours.metrics["error"], theirs.metrics["error"])
    torch.testing.assert_close(ours.metrics["gap"], theirs.metrics["gap"])
    assert ours.metrics["error"][-1].max() < 0.3 * ours.metrics["error"][0].max()
    rounds = optenvs.rollout(given(kind, clock="rounds"), agents.make("dgd"), batch=2, steps=20)
    assert rounds.merit[-1].max() < rounds.merit[0].min()
    node, whole = env.node(KEYS[:1], 2), quadratic().node(KEYS[:1], 2)
    torch.testing.assert_close(node.gradient(node.start, 0), whole.gradient(whole.start, 0))
    if kind == "data":
        assert node.data["own"]["b"].tolist() == [[CENTRES[2].tolist()]]


def test_without_a_solution_the_merit_is_the_mean_of_the_functions() -> None:
    env = given("list", solution=None)
    run = optenvs.rollout(env, agents.make("dadao"), batch=2)
    mean = torch.stack([f(torch.zeros(2).double()) for f in BOWLS]).mean()
    zero = given("list", solution=None, start=[0.0, 0.0]).reset(KEYS)
    torch.testing.assert_close(zero.merit, mean.expand(2))
    assert zero.floor is None and "gap" not in zero.metrics
    assert run.merit[-1].max() < run.merit[0].min()
    assert env.picture([env.reset(KEYS[:1])]).ndim == 3


def test_centres_and_starts() -> None:
    start = CENTRES.flip(0)
    state = quadratic(start=start).reset(KEYS)
    assert torch.equal(state.observation["point"], start.expand(2, 4, 2))
    assert torch.equal(state.hidden.functions.data.centre, CENTRES.expand(2, 4, 2))
    same = quadratic(start=(1.0, -1.0), clock="rounds").reset(KEYS)
    assert (same.observation["point"] == torch.tensor([1.0, -1.0])).all()


@pytest.mark.parametrize("order", ["wavefront", "sequential"])
def test_given_events_are_what_happens(order: str) -> None:
    env = quadratic(events=EVENTS, report_every=100.0, order=order)
    for index in range(4):
        mine = [event for event in EVENTS if index in event[1:]]
        told = [(e.time, e.kind) for e in env.node(KEYS[:1], index).events() if e.kind != "report"]
        assert told == [(e[0], "message" if len(e) == 3 else "gradient") for e in mine]
    run = optenvs.rollout(env, agents.make("ad_psgd"), batch=2)
    assert run.calls["gradient"][-1].tolist() == [3 + env.first_bill["gradient"]] * 2 or run.calls[
        "gradient"
    ][-1].tolist() == [3, 3]
    assert run.calls["exchange"][-1].tolist() == [3, 3]
    edges = quadratic(clock="edges", events=[(1.0, 0, 1)], rates_check="off")
    run = optenvs.rollout(edges, agents.make("ad_psgd"), batch=2)
    assert run.calls["exchange"][-1].tolist() == [1, 1]
    assert optenvs.check(env).ok


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"events": [(1.0, 0), (0.5, 1)]}, "events: expected times >= 0 in order, got 0.5 after 1.0 at 1"),
        ({"events": [(1.0, 0, 2)]}, r"events: expected neighbours, got \(1.0, 0, 2\) at 0"),
        ({"events": [(1.0, 4)]}, r"events: expected \(time, i\) or \(time, i, j\) with nodes 0 to 3"),
        ({"events": [(1.0, 0)], "clock": "edges"}, r"events: expected \(time, i, j\) with nodes"),
        ({"events": []}, "events: expected at least one"),
        ({"events": EVENTS, "clock": "rounds"}, "events: .* would have no effect: clock='rounds'"),
        ({"report_every": 2.0, "metric": "stale"}, "report_every: 2.0 would have no effect: metric='stale'"),
        ({"order": "sequential", "clock": "rounds"}, "order: 'sequential' would have no effect"),
        ({"start": (1.0, 2.0, 3.0)}, r"start: expected finite numbers of shape \(2,\) or \(4, 2\)"),
        ({"start": (0.0, 0.0), "start_std": 2.0}, "start_std: 2.0 would have no effect: start="),
        ({"start": (0.0, 0.0), "oracle": "conjugate"}, "start: .* would have no effect: oracle='conjugate'"),
        ({"start_std": 3.0, "oracle": "conjugate"}, "start_std: 3.0 would have no effect"),
        ({"mu": 0.5}, "mu: 0.5 would have no effect: the curvatures say what they are"),
        ({"L": 20.0}, "L: 20.0 would have no effect"),
        ({"centres": CENTRES[:3]}, r"centres: expected finite numbers of shape \(4, 2\)"),
        ({"curvatures": (1.0,)}, "curvatures: expected 4 numbers > 0"),
    ],
)
def test_what_does_not_fit_is_named(keywords: dict[str, Any], message: str) -> None:
    base = {"nodes": 4, "curvatures": CURVES, "centres": CENTRES}
    with pytest.raises(ValueError, match=message):
        optenvs.make("NetworkQuadratic", **(base | keywords))


@pytest.mark.parametrize(
    ("functions", "keywords", "message"),
    [
        (BOWLS, {"mu": 2.0, "L": 1.0}, "mu, L: expected 0 < mu <= L"),
        (BOWLS, {"nodes": 5}, "functions: expected one for each of the 5 nodes, got 4"),
        (BOWLS, {"data": CENTRES}, "data: expected one function for all nodes with it"),
        (bowl, {}, "nodes|data: expected tensors"),
        (bowl, {"data": CENTRES, "nodes": 5}, "data: expected tensors of leading dimension 5, got"),
        (BOWLS, {"oracle": "conjugate"}, "oracle: nothing is known of the conjugates"),
        (BOWLS, {"tolerance": 1.0}, "tolerance: expected a solution with it"),
        (BOWLS, {"solution": [1.0]}, "solution: expected 2 numbers"),
        (
            [lambda x: x] * 4,
            {},
            "functions: cannot be called on float64 tensors of shape .* and differentiated",
        ),
        ([torch.nn.Linear(2, 1)] * 4, {}, "functions: cannot be called on float64 .*RuntimeError"),
    ],
)
def test_functions_that_do_not_fit_are_named(functions: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.network_from_functions(functions, **({"dim": 2, "mu": 1.0, "L": 10.0} | keywords))


def test_a_graph_that_is_given_has_its_own_size() -> None:
    assert optenvs.make("NetworkQuadratic", graph=[(0, 1), (1, 2)]).agents == 3
    assert optenvs.make("NetworkQuadratic").agents == 10
    assert optenvs.make("NetworkQuadratic", graph=["cycle", "star"]).agents == 10
    with pytest.raises(ValueError, match="edges: expected a connected graph, got one of 8 components"):
        optenvs.make("NetworkQuadratic", graph=[(0, 1), (1, 2)], nodes=10)


def test_rates_follow_the_order_of_the_edges_given() -> None:
    edges, rates = [(2, 1), (0, 1), (3, 2)], [5.0, 3.0, 7.0]
    env = optenvs.make("NetworkQuadratic", graph=edges, rates=rates)
    assert env.graphs[0].edges == ((0, 1), (1, 2), (2, 3))
    assert env.edge_rates.rates[0].tolist() == [3.0, 5.0, 7.0]
    assert env.node(KEYS[:1], 1).rates == {0: 3.0, 2: 5.0}
    with pytest.raises(ValueError, match=r"got -3.0 on the edge \(0, 1\)"):
        optenvs.make("NetworkQuadratic", graph=edges, rates=[5.0, -3.0, 7.0])


def test_rates_are_judged_by_the_problem_itself() -> None:
    path = {"nodes": 5, "graph": "path", "L": 100.0}
    slow = 0.9 * edge_rates(optenvs.make("NetworkQuadratic", **path).graphs).rates[0]
    with pytest.raises(
        ValueError, match=r"it diverges: .* L = 100 the exponent of its mean square is \+0\.058"
    ):
        optenvs.make("NetworkQuadratic", **path, rates=slow)
    flat = {"nodes": 5, "curvatures": (1.0, 1.0, 1.0, 1.0, 1.0001)}
    slow = 0.85 * edge_rates(optenvs.make("NetworkQuadratic", **flat).graphs).rates[0]
    with pytest.warns(RateWarning, match=r"still converges: .* L = 1\.0001 .* -0\.14\d"):
        optenvs.make("NetworkQuadratic", **flat, rates=slow)
    # where constants differ between instances they are those of the instance of seed 0
    linear = optenvs.make("NetworkLinear", nodes=3, samples=20)
    draw = linear.draw(keys_from_seed(0, 1))
    assert (linear.judged.mu, linear.judged.L) == (float(draw.mu), float(draw.L))
    with pytest.warns(RateWarning, match=f"L = {float(draw.L):g} the exponent") as caught:
        optenvs.make("NetworkLinear", nodes=3, samples=20, rates_check="warn", rates=0.9 * np.ones(3) * 0.5)
    assert len(caught) == 1

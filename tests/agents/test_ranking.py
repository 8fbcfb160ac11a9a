"""Descent by orders: the forms of its queries, its variants, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranking_problems import KEYS, ranking, talk
from torch import Tensor

import agents
import optenvs
from agents.ranking._descent import DescentState, places, unit
from agents.ranking.zo_sign import signs

# the order ---------------------------------------------------------------------------------------


def test_places_and_signs_of_an_order() -> None:
    order = torch.tensor([[3, 0, -1], [1, 2, 0], [-1, -1, -1]])
    assert places(order, 4).tolist() == [[1, 2, 2, 0], [2, 0, 1, 3], [0, 0, 0, 0]]
    # of those that are not named nothing is known among each other
    assert signs(order, 4).tolist() == [[0, 1, 1, -1], [0, -1, -1, 1], [0, 0, 0, 0]]
    assert signs(torch.tensor([[3, 2]]), 4).tolist() == [[0, 0, -1, -1]]


# the two kinds of queries ------------------------------------------------------------------------


def test_an_estimate_and_a_search_in_turns() -> None:
    agent = agents.ZORankSGD(shown=6, ranked=4, line_search=3, lr=0.5, shrink=0.1, mu=0.2)
    queries, states, memories = talk(ranking(shown=8), agent, 4)
    start = states[0].observation["point"][:, 0]
    estimate, search, second, _ = queries
    assert [int(q["count"][0]) for q in queries] == [6, 4, 6, 4]
    assert [int(q["keep"][0]) for q in queries] == [4, 1, 4, 1]
    assert torch.equal(estimate["recommendation"], start)
    assert torch.allclose(estimate["query"][:, :6], start.unsqueeze(1) + 0.2 * memories[1].offsets)
    order = states[1].observation["order"][:, :4]
    step = 0.5 * agent.estimate(order, memories[1].offsets)
    lengths = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    assert torch.equal(search["query"][:, 0], start)
    expected = start.unsqueeze(1) - lengths.unsqueeze(1) * step.unsqueeze(1)
    assert torch.allclose(search["query"][:, 1:4], expected)
    best = states[2].observation["order"][:, 0]
    assert torch.equal(second["recommendation"], search["query"][torch.arange(4), best])
    assert (best > 0).any(), "no search has found anything"
    xi = torch.cat((memories[1].offsets, memories[3].offsets), 1)
    assert len(xi.flatten(0, 1).unique(dim=0)) == 4 * 12, "directions repeat"


def test_steps_without_a_search() -> None:
    agent = agents.ZORankSGD(line_search=0, lr=0.3)
    queries, states, memories = talk(ranking(), agent, 3)
    for t in (1, 2):
        g = agent.estimate(states[t].observation["order"], memories[t].offsets)
        expected = queries[t - 1]["recommendation"] - 0.3 * g
        assert torch.allclose(queries[t]["recommendation"], expected)
    assert states[-1].calls["points"].tolist() == [31] * 4


def test_top_queries_are_shown_whole() -> None:
    env = ranking(shown=5, recommend="top")
    queries, states, _ = talk(env, agents.ZORankSGD(), 6)
    assert all(isinstance(query, Tensor) and query.shape == (4, 5, 3) for query in queries)
    assert states[-1].calls["points"].tolist() == [31] * 4
    # a search shows x and four trials, each half as long
    search = queries[1]
    assert torch.equal(search[:, 0], states[0].observation["point"][:, 0])
    steps = search[:, 1:] - search[:, :1]
    assert torch.allclose(steps[:, 1:], steps[:, :-1] / 2)
    run = optenvs.rollout(env, agents.ZORankSGD(), batch=4, steps=200)
    assert (run.best[-1] < 1e-3 * run.best[0]).all()


@pytest.mark.parametrize("name", ["zo_sign", "scobo", "gld_fast"])
def test_the_others_take_top_queries_too(name: str) -> None:
    env = ranking(shown=8, recommend="top", ranked=1 if name == "gld_fast" else None)
    known = {"redraw": True, "line_search": 7} if name == "scobo" else {}
    run = optenvs.rollout(env, agents.make(name, **known), batch=4, steps=200)
    assert (run.best[-1] < 1e-2 * run.best[0]).all()
    assert run.calls["points"][-1].tolist() == [1 + 8 * 200] * 4


def test_each_instance_may_have_its_own_rate_and_distance() -> None:
    lr, mu = torch.tensor([1.0, 0.5, 0.1, 2.0]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    many = optenvs.rollout(ranking(), agents.ZORankSGD(lr=lr, mu=mu), keys=KEYS, steps=6, record=("point",))
    for i in range(4):
        agent = agents.ZORankSGD(lr=float(lr[i]), mu=float(mu[i]))
        one = optenvs.rollout(ranking(), agent, keys=KEYS[i : i + 1], steps=6, record=("point",))
        assert torch.allclose(one.recorded["point"][:, 0], many.recorded["point"][:, i], rtol=1e-6)


# variants ----------------------------------------------------------------------------------------


def test_accumulated_directions_are_means_until_a_search_succeeds() -> None:
    agent = agents.ZORankSGD(accumulate=True, lr=2.0, line_search=2)  # often too far: searches fail
    _, states, memories = talk(ranking(), agent, 40)
    kept = [torch.zeros(0, 3, dtype=torch.float64)] * 4
    failed = 0
    for t in range(1, 40, 2):
        before: DescentState = memories[t]
        g = agent.estimate(states[t].observation["order"], before.offsets)
        after: DescentState = memories[t + 1]
        for i in range(4):
            kept[i] = torch.cat((kept[i], g[i : i + 1]))
            assert torch.allclose(after.direction[i], kept[i].mean(0))
            assert float(after.averaged[i]) == len(kept[i])
            if int(states[t + 1].observation["order"][i, 0]) > 0:
                kept[i] = kept[i][:0]
            else:
                failed += 1
    assert 4 < failed < 80, "searches all fail, or none does"


def test_the_best_of_the_estimate_joins_the_search() -> None:
    agent = agents.ZORankSGD(prev_best=True, line_search=2, lr=50.0, mu=0.5)
    queries, states, _ = talk(ranking(), agent, 3)
    best = states[1].observation["order"][:, 0]
    assert (queries[1]["count"] == 4).all()
    assert torch.equal(queries[1]["query"][:, 3], queries[0]["query"][torch.arange(4), best])
    # steps far too long lose to it
    assert (states[2].observation["order"][:, 0] == 3).any()


def test_centre_and_best_may_be_among_the_points() -> None:
    agent = agents.ZORankSGD(include_center=True, include_best=True, line_search=0)
    queries, states, memories = talk(ranking(), agent, 4)
    for t in range(1, 4):
        shown = queries[t]["query"]
        assert torch.equal(shown[:, 0], queries[t]["recommendation"])
        best = states[t].observation["order"][:, 0]
        assert torch.allclose(shown[:, 1], queries[t - 1]["query"][torch.arange(4), best])
        assert torch.equal(memories[t].offsets[:, 0], torch.zeros(4, 3, dtype=torch.float64))


def test_directions_on_the_sphere_and_in_pairs() -> None:
    _, _, memories = talk(ranking(shown=7), agents.ZORankSGD(sphere=True, antithetic=True), 1)
    xi = memories[1].offsets
    assert torch.allclose(torch.linalg.vector_norm(xi, dim=-1), torch.ones(4, 7, dtype=torch.float64))
    assert torch.equal(xi[:, 4:], -xi[:, :3])


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.9), (0.6, None)])
def test_momentum_and_scaling_are_those_of_adam(betas: tuple[float, float | None], rounds: int) -> None:
    momentum, scaling = betas
    agent = agents.ZORankSGD(
        momentum=momentum, scaling=scaling, lr=0.1, line_search=0, rounds=rounds, eps=1e-3
    )
    queries, states, memories = talk(ranking(), agent, 12 * rounds + 1)
    x = torch.nn.Parameter(states[0].observation["point"][:, 0].clone())
    adam = torch.optim.Adam([x], lr=0.1, betas=(momentum, scaling or 0.0), eps=1e-3)
    mean = torch.zeros_like(x)
    for t in range(1, 13):
        asked = range((t - 1) * rounds + 1, t * rounds + 1)
        parts = [agent.estimate(states[i].observation["order"], memories[i].offsets) for i in asked]
        g = torch.stack(parts).mean(0)
        if scaling is None:
            mean = momentum * mean + (1 - momentum) * g
            x.data -= 0.1 * mean / (1 - momentum**t)
        else:
            x.grad = g
            adam.step()
        assert torch.allclose(queries[t * rounds]["recommendation"], x.detach(), rtol=1e-9)


def test_averages_are_made_once_an_iteration_and_lead_down() -> None:
    for known in ({"momentum": 0.5}, {"momentum": 0.5, "scaling": 0.9}, {"momentum": 0.5, "normalize": True}):
        agent = agents.ZORankSGD(**known, lr=0.5)
        queries, states, memories = talk(ranking(), agent, 10)
        assert [float(memory.moments.count[0]) for memory in memories] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
        step = queries[1]["query"][:, 0] - queries[1]["query"][:, 1]
        g = agent.estimate(states[1].observation["order"], memories[1].offsets)
        first = g / (g.abs() + 1e-8) if "scaling" in known else g
        first = unit(first) if "normalize" in known else first
        assert torch.allclose(step, 0.5 * first), "the first direction is not biased towards 0"
        run = optenvs.rollout(ranking(), agent, batch=4, steps=200)
        assert (run.best[-1] < 1e-3 * run.best[0]).all()
    assert memories[-1].moments is not None
    assert talk(ranking(), agents.ZORankSGD(), 1)[2][-1].moments is None


def test_who_is_told_nothing_keeps_the_averages() -> None:
    agent = agents.ZORankSGD(momentum=0.9, lr=0.5)
    _, states, memories = talk(ranking(), agent, 5)
    silent = {**states[5].observation, "order": torch.full_like(states[5].observation["order"], -1)}
    query, after = agent.act(memories[5], silent)
    assert torch.equal(after.moments.mean, memories[5].moments.mean)
    assert torch.equal(after.moments.count, memories[5].moments.count)
    # nor is it carried on without a direction
    assert torch.equal(query["recommendation"], memories[5].point)


def test_a_normalized_step_has_the_length_of_the_rate() -> None:
    for agent in (agents.ZORankSGD(normalize=True, lr=0.7), agents.ZOSign(lr=0.7)):
        queries, _, _ = talk(ranking(), agent, 2)
        step = queries[1]["query"][:, 1] - queries[1]["query"][:, 0]
        assert torch.allclose(torch.linalg.vector_norm(step, dim=-1), torch.full((4,), 0.7).double())


def test_several_queries_may_make_one_direction() -> None:
    agent = agents.ZORankSGD(rounds=3, line_search=2)
    queries, states, memories = talk(ranking(), agent, 9)
    assert [int(q["count"][0]) for q in queries] == [10, 10, 10, 3, 10, 10, 10, 3, 10]
    g = [agent.estimate(states[t].observation["order"], memories[t].offsets) for t in (1, 2, 3)]
    assert torch.allclose(memories[4].direction, torch.stack(g).mean(0))
    assert not torch.equal(memories[1].offsets, memories[2].offsets)


# what they refuse --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "agent", "fields"),
    [
        ("lr: expected a number > 0", "zo_ranksgd", {"lr": 0.0}),
        ("mu: expected a number > 0", "zo_sign", {"mu": -1.0}),
        (r"shrink: expected a number in \(0, 1\)", "zo_ranksgd", {"shrink": 1.0}),
        ("line_search: expected a whole number >= 0", "zo_ranksgd", {"line_search": -1}),
        ("rounds: expected a whole number >= 1", "zo_ranksgd", {"rounds": 0}),
        ("shown: expected more points than include_center", "zo_ranksgd", {"shown": 2, "include_center": True,
                                                                            "include_best": True}),
        (r"momentum: expected a number in \[0, 1\)", "zo_ranksgd", {"momentum": 1.0}),
        (r"scaling: expected a number in \[0, 1\) or None", "zo_ranksgd", {"scaling": -0.1}),
        ("eps: expected a number >= 0", "zo_ranksgd", {"scaling": 0.9, "eps": -1.0}),
        ("accumulate: expected False beside", "zo_ranksgd", {"momentum": 0.9, "accumulate": True}),
        ("sparsity: expected a whole number >= 1", "scobo", {"sparsity": 0}),
        ("normalize: expected True", "scobo", {"normalize": False}),
        ("lr_decay: expected a number in", "scobo", {"lr_decay": 0.0}),
        ("radius: expected a number > 0 or None", "gld_fast", {"radius": 0.0}),
        ("period: expected a whole number >= 1", "gld_fast", {"period": 0}),
        ("line_search: expected a whole number >= 0", "zo_sgd", {"line_search": 0.5}),
    ],
)  # fmt: skip
def test_bad_fields(message: str, agent: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(agent, **fields)


@pytest.mark.parametrize(
    ("message", "agent", "fields", "problem"),
    [
        ("shown: 11 is more than the 10", "zo_ranksgd", {"shown": 11}, {}),
        ("ranked: 5 is more than the 4", "zo_ranksgd", {"ranked": 5, "shown": 4}, {}),
        ("ranked: 4 is more than the 3", "zo_ranksgd", {"ranked": 4}, {"ranked": 3}),
        ("line_search: 10 is more than the 9", "zo_ranksgd", {"line_search": 10}, {}),
        ("line_search: 9 is more than the 8", "zo_ranksgd", {"line_search": 9, "prev_best": True}, {}),
        ("accumulate and prev_best need one", "zo_ranksgd", {"line_search": 0, "accumulate": True}, {}),
        ("no room for a search", "zo_ranksgd", {"prev_best": True}, {"shown": 2}),
        ("every query is shown whole", "zo_ranksgd", {"line_search": 5}, {"recommend": "top"}),
        ("every query is shown whole", "zo_sign", {"shown": 5}, {"recommend": "top"}),
        ("shown: expected at most 10", "gld_fast", {"shown": 11}, {}),
        ("shown: expected 10", "gld_fast", {"shown": 5}, {"recommend": "top"}),
    ],
)
def test_sizes_that_do_not_fit(
    message: str, agent: str, fields: dict[str, Any], problem: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.rollout(ranking(**problem), agents.make(agent, **fields), steps=1)

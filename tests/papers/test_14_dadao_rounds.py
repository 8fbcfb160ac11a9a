"""The synchronous rivals of DADAO (Nabli and Oyallon 2023): check 11, and the baselines of its comparisons.

The slopes of ADOM+ on six graphs and on 50 graphs in turn are those of the authors' code, run unchanged on
data of the same law; ours differ in the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import round_references as plain
import torch
from torch import Tensor

import agents
from agents.core import Agent
from optenvs.core.env import State
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import Run, rollout
from optenvs.envs.network.base import Network
from optenvs.envs.network.linear import NetworkLinear
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.envs.network.spectra import communications, laplacian, metropolis

pytestmark = pytest.mark.paper

SPREAD = tuple(np.linspace(1, 10, 10).tolist())
SIX = {"complete": 10, "cycle": 10, "star": 10, "path": 10, "grid": 9, "barbell": 10}


def quadratic(**keywords: Any) -> NetworkQuadratic:
    return NetworkQuadratic(**({"clock": "rounds", "t_max": 50.0} | keywords))


def by_round(env: Network, agent: Agent, **options: Any) -> tuple[list[Tensor], Run]:
    """The iterates of all nodes as they were published at the end of each round, and the run."""
    ends: dict[float, Tensor] = {}

    def keep(step: int, state: State) -> None:
        ends.setdefault(float(state.metrics["time"][0]), state.hidden.published)

    run = rollout(env, agent, on_step=keep, **options)
    return [ends[time] for time in sorted(ends) if time > 0], run


def at_rounds(run: Run) -> Tensor:
    """The error at the end of each round, from the start on."""
    time = run.metrics["time"][:, 0]
    first = torch.searchsorted(time.contiguous(), torch.arange(int(time[-1]) + 1, dtype=time.dtype))
    return run.metrics["error"][first]


# Slow references -------------------------------------------------------------------------------------

Method = Callable[[Network, Any, Any, np.ndarray], Iterator[np.ndarray]]


def _stepping(method: Any, lr: float) -> Method:
    def made(env: Network, problem: Any, bowls: Any, x: np.ndarray) -> Iterator[np.ndarray]:
        return method(metropolis(env.graphs[0]), _gradient(bowls), x, lr)

    return made


def _adom(consensus: bool) -> Method:
    def made(env: Network, problem: Any, bowls: Any, x: np.ndarray) -> Iterator[np.ndarray]:
        matrices = [_laplacian(graph) for graph in env.graphs]
        constants = float(problem.mu), float(problem.L)
        return plain.adom_plus(matrices, _gradient(bowls), x, *constants, consensus)

    return made


def _msda(env: Network, problem: Any, bowls: Any, x: np.ndarray) -> Iterator[np.ndarray]:
    curvature, centre = bowls.curvature[0, :, None].numpy(), bowls.centre[0].numpy()
    constants = float(problem.mu), float(problem.L)
    return plain.msda(_laplacian(env.graphs[0]), lambda v: centre + v / curvature, x, *constants)


def _laplacian(graph: Any) -> np.ndarray:
    return laplacian(graph, np.ones(len(graph.edges)))


def _gradient(bowls: Any) -> plain.Oracle:
    curvature, centre = bowls.curvature[0, :, None].numpy(), bowls.centre[0].numpy()
    return lambda x: curvature * (x - centre)


METHODS: dict[str, tuple[str, dict[str, Any], Method]] = {
    "dgd": ("dgd", {"lr": 0.03}, _stepping(plain.dgd, 0.03)),
    "extra": ("extra", {"lr": 0.05}, _stepping(plain.extra, 0.05)),
    "tracking": ("gradient_tracking", {"lr": 0.02}, _stepping(plain.gradient_tracking, 0.02)),
    "adom_plus": ("adom_plus", {}, _adom(False)),
    "adom_plus_mc": ("adom_plus", {"multi_consensus": True}, _adom(True)),
    "msda": ("msda", {}, _msda),
}


@pytest.mark.parametrize("graph", ["path", "barbell", "complete"])
@pytest.mark.parametrize("name", METHODS)
def test_it_is_its_equations(name: str, graph: str) -> None:
    known, hyperparameters, reference = METHODS[name]
    agent = agents.make(known, **hyperparameters)
    env = quadratic(nodes=6, graph=graph, dim=3, oracle="conjugate" if name == "msda" else "gradient")
    keys = keys_from_seed(5, 3)
    found, _ = by_round(env, agent, keys=keys)
    assert len(found) == 50
    for row in range(3):
        start = env.reset(keys[row : row + 1])
        point = start.observation["point"][0].numpy()
        expected = reference(env, start.problem, start.hidden.functions.data, point)
        for ours, theirs in zip(found, islice(expected, 50), strict=True):
            assert np.abs(ours[row].numpy() - theirs).max() < 1e-10 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("name", ["adom_plus", "adom_plus_mc"])
def test_adom_plus_follows_graphs_that_take_turns(name: str) -> None:
    known, hyperparameters, reference = METHODS[name]
    # their spectra are far apart, and their number divides no number of gossips in a round
    env = quadratic(nodes=6, graph=["star", "path", "complete", "cycle", "path"])
    keys = keys_from_seed(6, 1)
    found, run = by_round(env, agents.make(known, **hyperparameters), keys=keys)
    start = env.reset(keys)
    point = start.observation["point"][0].numpy()
    expected = reference(env, start.problem, start.hidden.functions.data, point)
    for ours, theirs in zip(found, islice(expected, 50), strict=True):
        assert np.abs(ours[0].numpy() - theirs).max() < 1e-10 * np.abs(theirs).max()
    edges = [len(graph.edges) for graph in env.graphs]
    gossips = int(run.calls["gossip"][-1])
    assert int(run.calls["exchange"][-1]) == sum(edges[k % 5] for k in range(gossips))


# Check 11 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lr", "rounds"), [("extra", 0.05, 3000), ("gradient_tracking", 0.01, 8000)])
def test_11_methods_without_bias_are_exact(name: str, lr: float, rounds: int) -> None:
    env = quadratic(curvatures=SPREAD, t_max=float(rounds), tolerance=1e-20)  # it ends where all are there
    run = rollout(env, agents.make(name, lr=lr), batch=12)
    assert run.state.terminated.all()
    assert (run.metrics["error"][-1] < 1e-20).all()
    assert run.metrics["time"][-1].max() <= rounds


def test_11_dgd_stalls_at_a_distance_of_the_order_of_its_step() -> None:
    """At the steps and rounds of the check by the reference, which DGD equals; at larger steps by DGD."""
    keys = keys_from_seed(1, 6)
    env = quadratic(curvatures=SPREAD, t_max=600.0)
    start = env.reset(keys)
    functions, mixing = start.hidden.functions, metropolis(env.graphs[0])
    centre, solution = functions.data.centre.numpy(), functions.solution.unsqueeze(1).numpy()
    stalled = []
    for lr in (5e-4, 2.5e-4):
        path = plain.dgd(mixing, lambda x: np.array(SPREAD)[:, None] * (x - centre), centre, lr)
        end = next(islice(path, 19_999, None))
        stalled.append(((end - solution) ** 2).sum(-1).mean(-1))
    ratio = stalled[0] / stalled[1]
    assert ((ratio > 3.6) & (ratio < 4.2)).all(), ratio

    steps = torch.tensor([2e-2, 1e-2], dtype=torch.float64).repeat(6)
    run = rollout(env, agents.make("dgd", lr=steps), keys=keys.repeat_interleave(2))
    data, one = run.state.hidden.functions.data, torch.eye(10, dtype=torch.float64)
    pull = steps.view(-1, 1, 1) * torch.diag_embed(data.curvature)
    fixed = torch.linalg.solve(one - torch.from_numpy(mixing) + pull, pull @ data.centre)
    assert torch.allclose(run.state.hidden.published, fixed, rtol=1e-8)
    larger, half = run.metrics["error"][-1].view(6, 2).unbind(1)
    assert ((larger / half > 2.5) & (larger / half < 4.2)).all(), larger / half


def test_11_msda_is_exact_after_100_rounds() -> None:
    env = NetworkLinear(clock="rounds", oracle="conjugate", t_max=100.0)
    run = rollout(env, agents.make("msda"), batch=7)
    error = at_rounds(run)
    assert len(error) == 101
    assert (error[-1] < 1e-20).all(), error[-1]
    assert (error[10] > 1e-10).all(), "too easy to say anything"


# Communications --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "vectors"), [("adom_plus", 2), ("adom_plus_mc", 2), ("msda", 1), ("dgd", 1), ("extra", 1)]
)
@pytest.mark.parametrize("graph", SIX)
def test_a_round_costs_what_is_published(name: str, vectors: int, graph: str) -> None:
    """Counted in activations of edges; ADOM+ sends two vectors in each."""
    _assert_published(name, vectors, quadratic(nodes=SIX[graph], graph=graph, t_max=6.0), rounds=5)


@pytest.mark.parametrize(("name", "count"), [("adom_plus", 299), ("adom_plus_mc", 62192), ("msda", 5083)])
def test_a_round_on_the_star_of_300(name: str, count: int) -> None:
    env = quadratic(nodes=300, graph="star", t_max=3.0)
    assert round(communications(env.graphs)[name]) == count
    _assert_published(name, 1 if name == "msda" else 2, env, rounds=2)


def _assert_published(name: str, vectors: int, env: Network, rounds: int) -> None:
    known, hyperparameters, _ = METHODS[name]
    agent = agents.make(known, **hyperparameters)
    main = "conjugate" if name == "msda" else "gradient"
    run = rollout(env.replace(oracle=main), agent)
    time, calls = run.metrics["time"][:, 0], run.calls
    # the steps at which a round ends, the first left out: methods that send before they compute differ there
    ends = [int((time == k).nonzero()[0]) for k in range(1, rounds + 2)]
    expected = round(communications(env.graphs).get(name, len(env.graphs[0].edges)))  # type: ignore[attr-defined]
    nodes = env.agents
    for before, now in pairwise(ends):
        spent = {kind: int(calls[kind][now, 0] - calls[kind][before, 0]) for kind in calls}
        assert spent[main] == nodes
        assert spent["exchange"] == expected
        assert spent["message"] == vectors * expected
        assert spent["round"] == 1


def test_tracking_sends_two_vectors_where_extra_sends_one() -> None:
    spent = {}
    for name in ("extra", "gradient_tracking"):
        run = rollout(quadratic(t_max=9.0), agents.make(name))
        spent[name] = [int(run.calls[kind][-1, 0]) for kind in ("gradient", "exchange", "message")]
    assert spent == {"extra": [100, 100, 100], "gradient_tracking": [100, 90, 180]}


# Slopes of ADOM+ -------------------------------------------------------------------------------------

KAPPA = 2.248 / 1.424
"""L / mu of the published run: the slopes depend on it."""
SLOPES = {
    "complete": -0.096,
    "cycle": -0.024,
    "star": -0.026,
    "path": -0.006,
    "grid": -0.037,
    "barbell": -0.011,
}
CONSENSUS = -0.050


def nearest(**keywords: Any) -> tuple[NetworkLinear, Tensor]:
    """Of 64 instances the one whose L / mu is the nearest to the published."""
    env = NetworkLinear(clock="rounds", t_max=200.0, **keywords)
    keys = keys_from_seed(0, 64)
    problem = env.reset(keys).problem
    away = (problem.L / problem.mu - KAPPA).abs()
    assert away.min() < 0.02 * KAPPA
    return env, keys[away.argmin()].reshape(1)


def slope(env: Network, keys: Tensor, multi_consensus: bool) -> float:
    """Of the logarithm of the error over 200 rounds."""
    run = rollout(env, agents.make("adom_plus", multi_consensus=multi_consensus), keys=keys)
    return plain.slope(at_rounds(run)[:, 0].numpy())


def slope_by_equations(env: Network, keys: Tensor) -> float:
    """The same by the reference, with multi-consensus."""
    return plain.slope(by_equations(env, keys, 200))


def by_equations(env: Network, keys: Tensor, rounds: int) -> np.ndarray:
    """The error of the reference at the end of each round, with multi-consensus."""
    start = env.reset(keys)
    problem, functions = start.problem, start.hidden.functions
    curvature, pull = functions.data["curvature"][0].numpy(), functions.data["pull"][0].numpy()
    path = plain.adom_plus(
        [_laplacian(graph) for graph in env.graphs],
        lambda x: np.einsum("nij,nj->ni", curvature, x) - pull,
        start.observation["point"][0].numpy(),
        float(problem.mu),
        float(problem.L),
        consensus=True,
    )
    solution = functions.solution[0].numpy()
    points = np.stack([start.observation["point"][0].numpy(), *islice(path, rounds)])
    return ((points - solution) ** 2).sum(-1).mean(-1)


@pytest.mark.parametrize("graph", SIX)
def test_the_slope_of_adom_plus_on_six_graphs(graph: str) -> None:
    found = slope(*nearest(graph=graph, nodes=SIX[graph]), multi_consensus=False)
    assert abs(found / SLOPES[graph] - 1) < 0.1, found


def test_multi_consensus_makes_one_slope_of_all_graphs_and_lists_of_them() -> None:
    """By the reference, and by ADOM+ itself on the star: the path alone takes it 5,600 steps."""
    several = {"graph": "random_geometric", "graph_options": {"radius": 0.5, "count": 50}}
    tried = [{"graph": graph, "nodes": SIX[graph]} for graph in SIX if graph != "complete"] + [several]
    found = np.array([slope_by_equations(*nearest(**keywords)) for keywords in tried])
    assert abs(found.mean() / CONSENSUS - 1) < 0.1, found
    assert np.abs(found / found.mean() - 1).max() < 0.05, found
    star = slope(*nearest(graph="star"), multi_consensus=True)
    assert abs(star - found[list(SIX).index("star") - 1]) < 1e-6


# The star of 300 nodes ---------------------------------------------------------------------------------


def test_the_star_of_300() -> None:
    """What the authors' notebook shows, on data of the same law: errors at so many gradients or messages.

    MSDA about 1e-3 at 6e4 communications (12 rounds), below 1e-5 at 5e3 gradients (17); ADOM+ no progress to
    speak of in 300 rounds; with multi-consensus about 3e-2 after 200, by the reference that it equals.
    """
    star: dict[str, Any] = {"clock": "rounds", "graph": "star", "nodes": 300}
    keys = keys_from_seed(0, 1)
    run = rollout(NetworkLinear(oracle="conjugate", t_max=17.0, **star), agents.make("msda"), keys=keys)
    error = at_rounds(run)[:, 0]
    assert 5e-4 < error[12] < 5e-3
    assert error[17] < 1e-5
    plainly = NetworkLinear(t_max=300.0, **star)
    error = at_rounds(rollout(plainly, agents.make("adom_plus"), keys=keys))[:, 0]
    assert error[300] > error[0] / 2 > 1e4
    assert 1e-2 < by_equations(plainly, keys, 200)[200] < 1e-1

"""Acceptance checks of optimization by directional attacks (Bouchet and Vidal 2025), and of relax and walk.

The figures are those of an independent implementation, on the reactor's equations and on networks of numpy's
generators. Values are minimised here, so the merits of the paper have the opposite sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from surrogate_problems import Linear, PartlyLinearTask, PrintedReluBox
from torch import Tensor

import agents
import optenvs
from agents.surrogate import _geometry as geometry
from agents.surrogate._relu import Layers, big_m
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import Run
from optenvs.envs.surrogate import relu_optimum
from optenvs.envs.surrogate.biodiesel import Biodiesel
from optenvs.envs.surrogate.relu_box import ReluBox

pytestmark = pytest.mark.paper

U = (0.7, -1.3, 0.2, 2.1, -0.4, 0.9)
REACH = 20 * 2 / 255  # of PGD's ten steps of 2/255, in units of the radius


def linear(**keywords: Any) -> Linear:
    return Linear(points=5, oracle="vjp", budget=None, **({"u": U} | keywords))


def attack_of(env: Linear, agent: agents.DirectionalAttack, batch: int = 50) -> tuple[Tensor, Tensor]:
    """The weights, and the step of the first attack."""
    queries = 2 if agent.attack == "fgsm" else 11
    run = optenvs.rollout(env, agent, batch=batch, steps=queries, record=("point",))
    state = env.reset(keys_from_seed(0, batch))
    weights = state.problem.weights if env.white_box else state.hidden.data
    assert (run.calls["vjp"][-1] == queries - 1).all()
    points = run.recorded["point"]
    return weights, points[-1, :, 0] - points[0, :, 0]


def slow_attack(weights: Tensor, u: Tensor, radius: float, steps: int, size: float) -> Tensor:
    """The signed gradient of sum_i u_i log softmax(Psi(q))_i, by autograd, for one instance."""
    q = torch.full((weights.shape[1],), 0.5, dtype=weights.dtype)
    for _ in range(steps):
        leaf = q.clone().requires_grad_()
        psi = weights @ (2 * radius * (leaf - 0.5))
        with torch.enable_grad():
            loss = (u * torch.log_softmax(psi, -1)).sum()
        (slope,) = torch.autograd.grad(loss, leaf)
        q = (q + size * slope.sign()).clamp(0, 1)
    return 2 * radius * (q - 0.5)


# 1, 2: the attack ---------------------------------------------------------------------------------


def test_the_linear_attack_is_the_steepest_step() -> None:
    radius = 0.3
    weights, step = attack_of(linear(), agents.DirectionalAttack(radius=radius))
    slope = torch.tensor(U, dtype=torch.float64) @ weights
    assert torch.allclose(step, radius * slope.sign(), atol=1e-12)
    # by duality no step of this norm gains more
    assert torch.allclose((step * slope).sum(-1), radius * slope.abs().sum(-1), atol=1e-12)


def test_cross_entropy_attacks_along_the_centred_direction() -> None:
    radius, u = 0.3, torch.tensor(U, dtype=torch.float64)
    weights, step = attack_of(linear(), agents.DirectionalAttack(radius=radius, loss="ce"))
    assert torch.allclose(step, radius * ((u - u.mean()) @ weights).sign(), atol=1e-12)
    assert torch.allclose(step.abs().amax(-1), torch.full((50,), radius, dtype=torch.float64), atol=1e-12)
    for row in range(50):
        assert torch.allclose(step[row], slow_attack(weights[row], u, radius, 1, 0.5), atol=1e-12)
    _, straight = attack_of(linear(), agents.DirectionalAttack(radius=radius))
    assert (step - straight).abs().amax(-1).gt(0.1).any()  # the two losses differ


def test_outputs_that_do_not_matter_are_dropped() -> None:
    radius, kept = 0.3, torch.tensor([0, 2, 4, 5])
    u = torch.tensor(U, dtype=torch.float64) * torch.tensor([1.0, 0, 1, 0, 1, 1], dtype=torch.float64)
    env = linear(u=tuple(u.tolist()), kind=PartlyLinearTask)
    weights, step = attack_of(env, agents.DirectionalAttack(radius=radius, loss="ce"))
    centred = u[kept] - u[kept].mean()
    assert torch.allclose(step, radius * (centred @ weights[:, kept]).sign(), atol=1e-12)


@pytest.mark.parametrize("loss", ["linear", "ce"])
def test_pgd_uses_a_sixth_of_its_radius(loss: str) -> None:
    radius = 0.3
    agent = agents.DirectionalAttack(radius=radius, attack="pgd", loss=loss)
    weights, step = attack_of(linear(white_box=True), agent)
    reach = step.abs().amax(-1)
    assert torch.allclose(reach, torch.full_like(reach, REACH * radius), atol=1e-12)
    if loss == "ce":
        u = torch.tensor(U, dtype=torch.float64)
        for row in range(50):
            assert torch.allclose(step[row], slow_attack(weights[row], u, radius, 10, 2 / 255), atol=1e-12)


def test_pgd_by_cross_entropy_needs_the_network() -> None:
    with pytest.raises(ValueError, match="DirectionalAttack: loss: 'ce'.*white_box=True"):
        optenvs.rollout(linear(), agents.DirectionalAttack(attack="pgd", loss="ce"), steps=1)


# 4: the reactor's equations -----------------------------------------------------------------------


def reactor(agent: Any, batch: int, steps: int, points: int = 6, **keywords: Any) -> Run:
    oracle = "vjp" if "vjp" in agent.needs else "value"
    env = Biodiesel(surrogate="ode", points=points, oracle=oracle, **({"budget": None} | keywords))
    run = optenvs.rollout(env, agent, batch=batch, steps=steps)
    assert (run.best[1:] <= run.best[:-1]).all()
    return run


def points_of(run: Run) -> Tensor:
    """Points tried, without the first."""
    return run.calls["value"] - 1


def median_at(run: Run, points: int) -> float:
    """The median merit when so many points have been tried."""
    last = (points_of(run) <= points).sum(0) - 1
    return float(-run.best.gather(0, last.unsqueeze(0)).quantile(0.5))


def test_attacks_alone_stop_on_the_diagonal() -> None:
    run = reactor(agents.AttackOnly(), batch=1, steps=90, points=2)
    assert run.agent_state.finished.all()
    assert points_of(run)[-1].tolist() == [81]
    assert float(-run.best[-1]) == pytest.approx(1.147282, abs=2e-6)
    assert run.agent_state.best.point[0].tolist() == pytest.approx([0.473406, 0.440073], abs=2e-6)


@pytest.mark.ci
@pytest.mark.slow  # ten runs of several hundred points, each of two hundred steps of Runge and Kutta
def test_the_hybrid_leads_early() -> None:
    run = reactor(agents.DirectionalAttack(), batch=10, steps=270, budget=500)
    # a longer run than that, of one in ten, does not move the median out of its window
    assert (run.agent_state.finished | run.state.done).sum() >= 9
    assert 1.15 <= median_at(run, 500) <= 1.40
    assert median_at(run, 30) >= 1.05
    assert 1.10 <= median_at(run, 100) <= 1.30


def test_direct_search_ends_higher() -> None:
    run = reactor(agents.CDSM(), batch=10, steps=300)
    assert run.agent_state.finished.all()
    assert 1.50 <= median_at(run, 10**6) <= 1.75
    assert median_at(run, 30) <= 0.75


# 6: networks of ReLU over a box -------------------------------------------------------------------

OPTIMA = {(20,): (0.109287, 0.117356, 0.123009), (20, 20): (0.2621, 0.1422, 0.1426)}
RELAXED = (0.3335, 0.3468, 0.2936)


def relaxation(layers: Any, row: int) -> float:
    """The largest output over the unit box where the program's choices may be anywhere in [0, 1]."""
    net = Layers(layers, row)
    rows, sides, cost, offset = big_m(net, np.zeros(net.inputs), np.ones(net.inputs))
    ends = [(0, 1)] * net.inputs + [(0, None)] * net.neurons + [(0, 1)] * net.neurons
    found = linprog(cost, A_ub=rows, b_ub=sides, bounds=ends, method="highs")
    assert found.status == 0
    return -float(found.fun + offset)


def network_boxes(widths: tuple[int, ...], printed: bool = True, points: int = 1, **keywords: Any) -> ReluBox:
    make = PrintedReluBox if printed else ReluBox
    return make(widths=widths, points=points, budget=None, **({"white_box": True} | keywords))


def walks(env: ReluBox, count: int, **options: Any) -> Tensor:
    """The best output of each of the first ``count`` walks, ``(count, B)``."""
    agent = agents.RelaxAndWalk(**options)
    state = env.reset(keys_from_seed(0, 3))
    memory = agent.init(state.problem, state.observation, keys_from_seed(1, 3))
    best = torch.full((count + 2, 3), -torch.inf, dtype=torch.float64)
    while int(memory.draws.min()) <= count:
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
        walk = memory.draws.clamp_max(count + 1).unsqueeze(0)  # the points are asked in the walk's order
        output = -state.observation["value"][:, 0].unsqueeze(0)
        best = best.scatter_reduce(0, walk, output, "amax")
    return best[1 : count + 1]


def test_the_mixed_integer_program_has_the_known_optima() -> None:
    layers = network_boxes((20,)).reset(keys_from_seed(0, 3)).problem.weights
    for row in range(3):
        exact, relaxed = relu_optimum(layers, row)[0], relaxation(layers, row)
        assert exact == pytest.approx(OPTIMA[20,][row], abs=1e-6)
        assert relaxed == pytest.approx(RELAXED[row], abs=1e-4)
        assert relaxed >= exact


def test_a_walk_from_the_relaxation_is_often_optimal() -> None:
    best = walks(network_boxes((20,)), 1)[0]
    exact = torch.tensor(OPTIMA[20,], dtype=torch.float64)
    assert (best <= exact + 1e-6).all()
    assert (best >= exact - 1e-6).sum() >= 2


def test_twenty_walks_from_random_points_find_the_optimum() -> None:
    best = walks(network_boxes((20,)), 20, starts="random").amax(0)
    exact = torch.tensor(OPTIMA[20,], dtype=torch.float64)
    assert (best <= exact + 1e-6).all()
    assert (best >= exact - 1e-6).sum() >= 2


@pytest.mark.parametrize("starts", ["relaxation", "random"])
def test_twenty_walks_on_two_layers(starts: str) -> None:
    best = walks(network_boxes((20, 20)), 20, starts=starts).amax(0)
    exact = torch.tensor(OPTIMA[20, 20], dtype=torch.float64)
    assert (best <= exact + 1e-4).all()
    short = best < 0.99 * exact
    assert not short.any() if starts == "random" else short.sum() <= 1


@pytest.mark.parametrize(
    ("agent", "points", "steps", "share"),
    [
        (agents.RelaxAndWalk(), 1, 30, 0.99),
        (agents.PiecewiseLinearAscent(), 8, 60, 0.5),
        (agents.ProjectedGradient(), 1, 300, 0.5),
    ],
    ids=["relax_and_walk", "piecewise_linear_ascent", "projected_gradient"],
)
def test_no_agent_exceeds_the_optimum_of_drawn_networks(
    agent: Any, points: int, steps: int, share: float
) -> None:
    oracle = "vjp" if "vjp" in agent.needs else "value"
    env = network_boxes((20,), printed=False, points=points, oracle=oracle)
    run = optenvs.rollout(env, agent, batch=4, steps=steps)
    layers = run.state.problem.weights
    exact = torch.tensor([relu_optimum(layers, row)[0] for row in range(4)], dtype=torch.float64)
    start, best = -run.best[0], -run.best[-1]
    assert (best <= exact + 1e-6).all()
    assert ((best - start) >= share * (exact - start)).all()


# 7: the poll --------------------------------------------------------------------------------------


def spans(p: np.ndarray) -> bool:
    """Whether the rows span positively: rank n, and a positive combination of all of them is zero."""
    count, size = p.shape
    zero = linprog(np.ones(count), A_eq=p.T, b_eq=np.zeros(size), bounds=[(1, None)] * count, method="highs")
    return bool(np.linalg.matrix_rank(p) == size and zero.status == 0)


def reflections(size: int, count: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    keys = keys_from_seed(3, count)
    turn = torch.arange(count)
    return geometry.householder(keys, turn, torch.zeros(count, size, dtype=torch.float64)), keys, turn


@pytest.mark.parametrize("size", [2, 5, 10])
def test_polls_span_positively(size: int) -> None:
    h, keys, turn = reflections(size)
    eye = torch.eye(size, dtype=torch.float64)
    assert (h @ h.mT - eye).abs().max() < 1e-10
    simplex = geometry.poll_simplex(h)
    common = geometry.rotated(simplex, keys, turn, common=True)
    each = geometry.rotated(simplex, keys, turn, common=False)
    for row in range(100):
        for poll in (geometry.poll_both(h), simplex, common):
            assert spans(poll[row].numpy())
    # rotated independently, many do not
    assert sum(spans(poll) for poll in each.numpy()) < 70
    for turned in (common, each):
        lengths = torch.linalg.vector_norm(turned, dim=-1)
        assert torch.allclose(lengths, torch.linalg.vector_norm(simplex, dim=-1), atol=1e-12)
        assert (turned - simplex).abs().amax() > 0.1
        assert turned.flatten(0, 1).abs().amax(0).min() > 0.1
    # the published map is none for n > 2: the later coordinates are zero
    published = geometry.rotated_as_published(simplex, keys, turn)
    unused = published.flatten(0, 1).abs().amax(0) == 0
    assert unused.tolist() == [i > size // 2 for i in range(size)]


def test_the_published_rotation_is_one_in_the_plane() -> None:
    h, keys, turn = reflections(2)
    simplex = geometry.poll_simplex(h)
    turned = geometry.rotated_as_published(simplex, keys, turn)
    assert torch.allclose(torch.linalg.vector_norm(turned, dim=-1), torch.linalg.vector_norm(simplex, dim=-1))


def test_the_published_map_by_its_matrix() -> None:
    # row by row, each pair of neighbours writing over what the one before wrote
    size, keys, turn = 7, keys_from_seed(5, 1), torch.zeros(1, dtype=torch.int64)
    eye = torch.eye(size, dtype=torch.float64).unsqueeze(0)
    columns = geometry.rotated_as_published(eye[:, :1], keys, turn)  # the angles of the first direction
    cos = float(columns[0, 0, 0])
    sin = -float(columns[0, 0, 1])
    assert cos**2 + sin**2 == pytest.approx(1)
    matrix = torch.stack(
        [geometry.rotated_as_published(eye[:, i : i + 1], keys, turn)[0, 0] for i in range(size)], 1
    )
    expected = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size // 2):
        c, s = float(matrix[i, i]), float(matrix[i, i + 1])
        expected[i, i], expected[i, i + 1] = c, s
        expected[i + 1, i], expected[i + 1, i + 1] = -s, c
    assert torch.allclose(matrix, expected)

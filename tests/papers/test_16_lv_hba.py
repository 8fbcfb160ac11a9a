"""LV-HBA (Yao, Yu, Zeng, Zhang, ICLR 2024): the cheap acceptance checks on its toy problems.

Thousands of iterations are asked of the problem's functions directly (``lv_hba_course.py``), which is the
environment's step without its bill and its metrics; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lv_hba_course import Course
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import replace
from optenvs.envs.bilevel.base import Bilevel
from optenvs.envs.bilevel.parts import Own

N = 100
DOUBLE = torch.float64


def toy(**keywords: Any) -> Bilevel:
    return optenvs.make("BilevelToy", budget=None, tolerance=None, **keywords)  # type: ignore[return-value]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def error(x: Tensor) -> list[float]:
    return ((x + 0.3).norm(dim=-1) / (0.3 * N**0.5)).tolist()


def test_a_course_is_the_environments_own() -> None:
    env, agent = toy(dim=5), agents.LVHBA(scale=True)
    state = env.reset(keys_from_seed(0, 3))
    course = Course(env, agent, state.observation["x"], state.observation["y"])
    run = optenvs.rollout(env, agent, batch=3, steps=41, record=("point",))
    memory = course(20)
    torch.testing.assert_close(
        torch.cat((memory.x, memory.y), -1), run.recorded["point"][-1], rtol=1e-12, atol=0
    )


# Checks 1 and 2 -------------------------------------------------------------------------------


class Random:
    """Quadratic f, affine g, n = 3, m = 4, p = 2, gamma = 1, and the exact saddle of the value function."""

    r = 3.0

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=DOUBLE)

        root, self.mixed, self.b = draw(4, 4), draw(3, 4), draw(4)
        self.Q, self.G, self.J, self.h = root @ root.T / 4, draw(2, 3), draw(2, 4), draw(2) - 1
        self.env = optenvs.bilevel_from_functions(
            lambda x, y: (x**2).sum() + (x.sum() - y.sum()).sin(),
            lambda x, y: y @ self.Q @ y / 2 + x @ self.mixed @ y + self.b @ y + (x**2).sum() / 2,
            x=3,
            y=4,
            inequality=lambda x, y: self.G @ x + self.J @ y + self.h,
            project=lambda x, y: (x, y),
            bound=self.r,
        )
        self.own = Own(known=self.env.draw(keys_from_seed(0, 1)).geometry, data=None)

    def saddle(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """theta and lambda = clip(z + g(x, theta), 0, r), by semismooth Newton in theta."""
        theta, unit = y, torch.eye(4, dtype=DOUBLE)
        for _ in range(12):
            raw = z + self.env.constrain(self.own, x, theta)
            lam, inside = raw.clamp(0, self.r), ((raw > 0) & (raw < self.r)).to(DOUBLE)
            slope = self.env.lower_slope(self.own, x, theta)[1][:, 3:] + lam @ self.J + theta - y
            matrix = self.Q + unit + self.J.T @ (inside.unsqueeze(-1) * self.J)
            theta = theta - torch.linalg.solve(matrix, slope)
        assert float(slope.norm(dim=-1).max()) < 1e-10
        return theta, lam

    def gap(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """f - v."""
        theta, lam = self.saddle(x, y, z)
        value = self.env.lower(self.own, x, theta) + (lam * self.env.constrain(self.own, x, theta)).sum(-1)
        value = value + ((theta - y).square().sum(-1) - (lam - z).square().sum(-1)) / 2
        return self.env.lower(self.own, x, y) - value


@pytest.mark.parametrize("seed", range(2))
def test_1_the_step_is_the_slope_of_the_penalised_objective(seed: int) -> None:
    problem, c = Random(seed), 7.0
    env, generator = problem.env, torch.Generator().manual_seed(100 + seed)
    places = {
        name: torch.randn(1, size, generator=generator, dtype=DOUBLE) for name, size in (("x", 3), ("y", 4))
    }
    places["z"] = 1.5 + torch.zeros(1, 2, dtype=DOUBLE)  # inside of Z, so that its step is not cut
    agent = agents.LVHBA(alpha=1e-3, beta=1e-3, eta=0.1, c=c, power=0.0, scale=False)
    course = Course(env, agent, places["x"], places["y"])
    theta, lam = problem.saddle(**places)
    state = replace(
        course.memory, theta=theta, lam=lam, z=places["z"], k=course.memory.k + 1, outer=~course.memory.outer
    )
    action, state = agent._ask_outer(state)
    answered = env.step(env.reset(keys_from_seed(0, 1)), action).observation
    _, after = agent.act(replace(state, outer=torch.ones(1, dtype=torch.bool)), answered)

    def penalised(**moved: Tensor) -> Tensor:
        at = places | moved
        return env.upper(problem.own, at["x"], at["y"]) / c + problem.gap(**at)

    for name in ("x", "y", "z"):
        step = 1e-5 * torch.eye(places[name].shape[1], dtype=DOUBLE)
        slope = [
            (penalised(**{name: places[name] + e}) - penalised(**{name: places[name] - e})) / 2e-5
            for e in step
        ]
        found = (places[name] - getattr(after, name)) / 1e-3
        torch.testing.assert_close(found, torch.stack(slope, -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0])
def test_2_the_gap_is_never_negative_and_0_at_the_solution(seed: int) -> None:
    problem = Random(seed)
    env, generator = problem.env, torch.Generator().manual_seed(seed)
    x, y = (torch.randn(1000, size, generator=generator, dtype=DOUBLE) for size in (3, 4))
    z = problem.r * torch.rand(1000, 2, generator=generator, dtype=DOUBLE)
    # a feasible y: moved along J's pseudo-inverse by what is violated
    y = y - env.constrain(problem.own, x, y).clamp_min(0) @ torch.linalg.pinv(problem.J).T
    assert float(env.constrain(problem.own, x, y).max()) < 1e-12
    assert float(problem.gap(x, y, z).min()) >= -1e-10
    found = env.solve(problem.own, x[:100])
    fits = (found.multipliers < problem.r).all(-1)
    assert int(fits.sum()) > 50
    gap = problem.gap(x[:100], found.y, found.multipliers.clamp_max(problem.r)).abs()
    assert float(gap[fits].max()) < 1e-10


# Check 3 --------------------------------------------------------------------------------------


def test_3_the_inequality_and_a_bound_that_is_too_small() -> None:
    env = optenvs.make("BilevelInequality", budget=None, tolerance=None, data={"x": [-1.0], "y": [-1.0]})
    start = -torch.ones(2, 1, dtype=DOUBLE)
    agent = agents.LVHBA(
        alpha=0.05,
        beta=0.5,
        eta=0.3,
        r=numbers(10, 1),
        c=numbers(1, 100),
        power=numbers(0.3, 0.0),
        scale=False,
    )
    course = Course(env, agent, start, start)  # type: ignore[arg-type]
    memory = course(1000)
    assert float(memory.x[0] - 0.5) == pytest.approx(-1.95e-4, rel=0.1)
    memory = course(3100)  # 20,000 are allowed
    for found in (memory.x[0], memory.y[0], memory.lam[0] - 1):
        assert float(found) == pytest.approx(0.5, abs=1e-10)
    for found in (memory.x[1], memory.y[1]):
        assert float(found) == pytest.approx(51 / 52, abs=1e-8)
    assert float(memory.lam[1]) == 1


# Checks 4, 5, 6 -------------------------------------------------------------------------------


def starts() -> dict[str, tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.standard_normal(N)), torch.from_numpy(rng.standard_normal(2 * N))
    zero = torch.zeros(N, dtype=DOUBLE), torch.zeros(2 * N, dtype=DOUBLE)
    return {"zero": zero, "sequential": (zero[0] - 20, zero[1] + 10), "random": (x, y)}


def rows(*names: str) -> tuple[Tensor, Tensor]:
    known = starts()
    return torch.stack([known[n][0] for n in names]), torch.stack([known[n][1] for n in names])


def limit(c: float) -> Tensor:
    """(a, b, d, t1, t2, lambda, mu) of the stationary point at constant c, gamma = 1."""
    matrix = numbers(
        *(1 / c, -1, -1 / c, 1, 0, -1, 1),
        *(-1, 1 / c, 0, 1, 0, 0, 1),
        *(-1 / c, 0, 1 / c - 1, 0, 1, 0, 1),
        *(-1, -1, 0, 2, 0, 1, 0),
        *(0, 0, -1, 0, 1, 1, 0),
        *(1, 0, 0, 1, 1, 0, 0),
        *(1, 1, 1, 0, 0, 0, 0),
    ).reshape(7, 7)
    return torch.linalg.solve(matrix, numbers(0, 1 / c, -1, 0, -1, 0, 0))


@pytest.fixture(scope="module")
def scaled() -> dict[int, Any]:
    """Memories after 100, 1000, 4000, 5000 iterations with scaled constraints."""
    agent = agents.LVHBA(
        alpha=0.1,
        beta=0.5,
        eta=0.5,
        r=1000.0,
        scale=True,
        lambda0=1.0,
        z0=-1.0,
        c=numbers(10, 100, 100, 1, 1, 1, 1, 1, 1),
        power=numbers(0, 0, 0, 0.49, 0.3, 0.49, 0.3, 0.49, 0.3),
    )
    x, y = rows("zero", "zero", "random", *["zero"] * 2, *["sequential"] * 2, *["random"] * 2)
    course, found, done = Course(toy(), agent, x, y), {}, 0
    for mark in (100, 1000, 4000, 5000):
        found[mark], done = course(mark - done), mark
    return found


def test_4_the_stationary_point_at_constant_c(scaled: dict[int, Any]) -> None:
    memory = scaled[4000]
    for row, c, tolerance in ((0, 10.0, 1e-11), (1, 100.0, 1e-3)):
        a, b, d, t1, t2, lam, _ = limit(c).tolist()
        n, unit = N, float(memory.settings["unit"][row])
        parts = (
            memory.x[row],
            memory.y[row, :n],
            memory.y[row, n:],
            memory.theta[row, :n],
            memory.theta[row, n:],
        )
        for part, expected in zip(parts, (a, b, d, t1, t2), strict=True):
            assert float((part - expected).abs().max()) < tolerance
        assert float(memory.lam[row]) / unit == pytest.approx(lam, abs=tolerance)
    assert limit(10.0)[:6].tolist() == pytest.approx(
        [-0.321429, 0.732143, -0.410714, 0.714286, -0.392857, -1.017857], abs=1e-6
    )
    far = (memory.x[1] - limit(100.0)[0]).norm() / (limit(100.0)[0].abs() * N**0.5)
    assert 1e-4 < float(far) < 1e-3
    slow = (memory.x[2] - limit(100.0)[0]).norm()
    assert 0.1 < float(slow) / (0.3 * N**0.5) < 1  # what has mean 0 feels F / c alone


def test_5_growing_c(scaled: dict[int, Any]) -> None:
    expected = {
        100: (1.24e-1, 1.60e-1, 1.87e-1, 1.53e-1, 1.135, 8.857e-1),
        1000: (2.55e-2, 8.75e-2, 2.55e-2, 8.75e-2, 2.865e-1, 8.920e-2),
        5000: (1.20e-2, 5.68e-2, 1.20e-2, 5.68e-2, 2.498e-2, 5.683e-2),
    }
    for mark, published in expected.items():
        assert error(scaled[mark].x)[3:] == pytest.approx(published, rel=0.01), mark
    env, memory = toy(), scaled[5000]
    state = env.step(
        env.reset(keys_from_seed(0, 9)), env.card.offer.query({"upper": True}, x=memory.x, y=memory.y)
    )
    assert state.metrics["distance"][7:].tolist() == pytest.approx([1.29e-1, 6.03e-1], rel=0.01)
    assert state.metrics["gap"][7:].tolist() == pytest.approx([8.62e-3, 1.45e-1], rel=0.01)
    spread = memory.x.std(-1)[7:].tolist()
    assert spread[0] == pytest.approx(6.6e-3, rel=0.05)
    assert spread[1] == pytest.approx(1.1e-7, rel=0.1)


def test_5_and_6_the_released_settings() -> None:
    """The script's settings do not converge; those of its fork do, from equal coordinates."""
    agent = agents.LVHBA(
        alpha=numbers(0.008, 0.005),
        beta=numbers(0.02, 0.002),
        eta=numbers(0.01, 0.03),
        gamma1=10.0,
        gamma2=10.0,
        c=numbers(0.025, 1),
        power=0.3,
        r=numbers(1000, 1),
        scale=False,
        lambda0=1.0,
        z0=-1.0,
    )
    course, done = Course(toy(), agent, *rows("sequential", "zero")), 0
    marks = {1: 3.40679, 2: 2.91691, 10: 0.69187, 100: 2.71730, 1500: 4.77618}
    for mark, published in marks.items():
        found = error(course(mark - done).x)[0]
        done = mark
        assert np.log(found) == pytest.approx(published, abs=1e-4), mark
    assert error(course(3500).x)[1] == pytest.approx(2.51e-2, rel=0.01)


# Check 7 --------------------------------------------------------------------------------------


def strong() -> Bilevel:
    rng = np.random.default_rng(0)
    A, E, H, c, d = (rng.random(shape) for shape in ((90, N), (45, N), (90, N), N, N))
    data = {"A": A, "E": E, "H": H, "c": c, "d": d}
    return optenvs.make("BilevelStrong", budget=None, tolerance=None, start="tens", data=data)  # type: ignore[return-value]


def test_7_the_strongly_convex_toy() -> None:
    env = strong()
    state = env.reset(keys_from_seed(0, 1))
    least = float(state.hidden.best)
    assert least == pytest.approx(-0.7200135, abs=1e-7)
    agent = agents.LVHBA(
        alpha=0.02,
        beta=0.001,
        eta=0.1,
        c=1.0,
        power=0.3,
        scale=False,
        project_inner=True,
        inner="uniform",
    )
    course = Course(env, agent, state.observation["x"], state.observation["y"])
    constant = float(state.hidden.data.d.norm()) + 1
    for _ in range(20):
        memory = course(50)
        step = env.step(state, env.card.offer.query({"upper": True}, x=memory.x, y=memory.y))
        size = max(1.0, float(memory.x.abs().max()))
        assert float(step.metrics["infeasibility"]) / size < 1e-12
        assert float(step.metrics["astray"]) / size < 1e-12
        assert float(step.metrics["upper_value"]) >= least - constant * float(step.metrics["distance"])
    assert float(step.metrics["upper_value"]) == pytest.approx(-0.3970, abs=5e-4)
    assert float(step.metrics["distance"]) == pytest.approx(0.1108, abs=5e-4)
    assert float(step.metrics["value"]) == pytest.approx(-0.3376, abs=5e-4)


def test_7_the_hypergradient_leads_to_the_optimum() -> None:
    from scipy.optimize import minimize

    env = strong()
    state = env.reset(keys_from_seed(0, 1))
    own, least = env.own(state), float(state.hidden.best)
    whole = np.linalg.qr(np.random.default_rng(1).standard_normal((N, N)))[0]
    along = own.known.along[0].numpy()
    basis = np.linalg.svd(along @ whole)[0][:, : N - 45]

    def phi(s: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(basis @ s)[None]
        return float(env.value(own, x)), basis.T @ env.hypergradient(own, x)[0].numpy()

    rng = np.random.default_rng(2)
    for _ in range(4):
        found = minimize(phi, 0.1 * rng.standard_normal(N - 45), jac=True, method="L-BFGS-B")
        assert found.fun == pytest.approx(least, abs=1e-6)
        assert found.fun >= least - 1e-9

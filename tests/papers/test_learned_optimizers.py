"""Acceptance checks of learned-optimizer research (Andrychowicz et al. 2016; Metz et al. 2020)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import OptimizationEnv, keys_from_seed
from optenvs.core.features import log_and_sign
from optenvs.faces.single import GymEnv
from optenvs.wrappers import CoordinateFeatures, Displacement, Reparametrise, StepSizeControl

pytestmark = pytest.mark.paper

STEPS = 10


# The Gymnasium face and the functional core are the same trajectories --------------------------


@pytest.mark.parametrize(
    "env",
    [
        optenvs.make("Quadratic", dim=5),
        Displacement(optenvs.make("Rosenbrock", dim=3)),
        CoordinateFeatures(Reparametrise(optenvs.make("LeastSquares", dim=4))),
        StepSizeControl(optenvs.make("Quadratic", dim=5, budget=200), agents.SGD(momentum=0.9), repeat=2),
    ],
    ids=lambda env: env.name,
)
def test_gymnasium_and_core_agree(env: OptimizationEnv) -> None:
    keys = keys_from_seed(3, 8)
    shape = env.action_space.shape
    start = env.sample(keys).start
    generator = torch.Generator().manual_seed(0)
    actions = [start + 0.02 * torch.randn(8, *shape, generator=generator) for _ in range(50)]
    batch, alone = env.reset(keys), [env.reset(key[None]) for key in keys]
    gyms = [GymEnv(env) for _ in keys]
    seen = [gym.reset(options={"instance": int(key)})[0] for gym, key in zip(gyms, keys, strict=True)]
    for step in range(51):
        if step:
            batch = env.step(batch, actions[step - 1])
            for i in range(8):
                alone[i] = env.step(alone[i], actions[step - 1][i : i + 1])
                seen[i] = gyms[i].step(actions[step - 1][i].numpy())[0]
        for name, value in batch.observation.items():
            for i in range(8):
                torch.testing.assert_close(alone[i].observation[name][0], value[i], rtol=1e-6, atol=1e-6)
                # the face shows what the core of one instance answers, bit for bit
                assert torch.equal(torch.from_numpy(seen[i][name]), alone[i].observation[name][0])


# Meta-gradients against central differences ----------------------------------------------------


def _setting(seed: int) -> tuple[OptimizationEnv, agents.LOLv2, Tensor]:
    env = optenvs.make("Quadratic", dim=6, spectrum="wishart", dtype="float64", tolerance=None, budget=None)
    agent = agents.LOLv2(hidden=8, step_multiplier=0.1, dtype="float64", seed=seed)
    return env, agent, keys_from_seed(seed, 1)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def _meta_gradient(seed: int, second_order: bool) -> Tensor:
    env, agent, keys = _setting(seed)
    run = optenvs.unroll(env, agent, keys=keys, steps=STEPS, second_order=second_order)
    return _flat(list(torch.autograd.grad(run.metrics["value"][1:].mean(), list(agent.parameters()))))


def _loss(seed: int, shift: Tensor, gradients: Tensor | None = None) -> Tensor:
    """The meta-loss at shifted weights; with ``gradients`` ``(K, 1, n)`` the oracle's answers are these."""
    env, agent, keys = _setting(seed)
    with torch.no_grad():
        weights = torch.nn.utils.parameters_to_vector(agent.parameters())
        torch.nn.utils.vector_to_parameters(weights + shift, agent.parameters())
        state = env.reset(keys)
        memory = agent.init(state.problem, state.observation, keys)
        total = torch.zeros(())
        for step in range(STEPS):
            seen = dict(state.observation)
            if gradients is not None:
                seen["gradient"] = gradients[step]
            action, memory = agent.act(memory, seen)
            state = env.step(state, action)
            total = total + state.metrics["value"].mean()
    return total / STEPS


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_meta_gradient_is_the_central_difference(seed: int, second_order: bool) -> None:
    h = 1e-6
    analytic = _meta_gradient(seed, second_order)
    recorded = None
    if not second_order:
        env, agent, keys = _setting(seed)
        run = optenvs.rollout(env, agent, keys=keys, steps=STEPS, record=("gradient",))
        recorded = run.recorded["gradient"]
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(10, len(analytic), dtype=torch.float64, generator=generator)
    slopes = directions @ analytic
    differences = torch.stack(
        [(_loss(seed, h * v, recorded) - _loss(seed, -h * v, recorded)) / (2 * h) for v in directions]
    )
    assert slopes.abs().max() > 1e-3
    assert (differences - slopes).abs().max() / slopes.abs().max() < 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_order_meta_gradient_is_another(seed: int) -> None:
    second, first = _meta_gradient(seed, True), _meta_gradient(seed, False)
    assert torch.linalg.vector_norm(first - second) / torch.linalg.vector_norm(second) > 1e-4


# Features --------------------------------------------------------------------------------------


def test_log_and_sign_has_the_papers_values() -> None:
    gradient = torch.tensor([[1.0, 1e-2, 1e-3, 1e-8, 0.0]], dtype=torch.float64)
    expected = torch.tensor(
        [[0.0, 1.0], [-0.92103, 1.0], [-1.0, 0.148413], [-1.0, 1.4841e-6], [-1.0, 0.0]],
        dtype=torch.float64,
    )
    seen = log_and_sign(gradient, k=5.0)[0]
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-7)
    mirrored = log_and_sign(-gradient, k=5.0)[0]
    assert torch.equal(mirrored[:, 0], seen[:, 0])
    assert torch.equal(mirrored[:, 1], -seen[:, 1])


# Reparametrisation -----------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.01, 0.1, 3.0, 100.0])
@pytest.mark.parametrize(("name", "lr"), [("Quadratic", 0.5), ("Rosenbrock", 1e-4)])
def test_gradient_descent_under_reparametrisation(name: str, lr: float, c: float) -> None:
    env = optenvs.make(name, dtype="float64", tolerance=None)
    keys = keys_from_seed(0, 4)
    plain = optenvs.rollout(env, agents.SGD(lr=lr), keys=keys, steps=100)
    scaled = optenvs.rollout(Reparametrise(env, scale=c), agents.SGD(lr=lr / c**2), keys=keys, steps=100)
    wrong = optenvs.rollout(Reparametrise(env, scale=c), agents.SGD(lr=lr / c), keys=keys, steps=100)
    losses = plain.metrics["value"]
    torch.testing.assert_close(scaled.metrics["value"], losses, rtol=1e-11, atol=1e-280)
    assert not torch.allclose(wrong.metrics["value"], losses, rtol=1e-3)


# Meta-training ---------------------------------------------------------------------------------


def test_meta_training_beats_the_untrained_network_and_tuned_sgd() -> None:
    """20 epochs of ``examples/meta_train_lstm.py``, which trains 200 and beats Adam and momentum too."""
    env = optenvs.make("LeastSquares", dim=10, budget=None, tolerance=None)
    agent = agents.LSTMOptimizer(preprocess="raw", scale=0.1, seed=0)
    held_out = keys_from_seed(1_000_001, 1024)

    def score(tried: agents.Agent) -> float:
        losses = optenvs.rollout(env, tried, keys=held_out, steps=100).metrics["value"]
        assert losses[0].mean() == pytest.approx(10.0, rel=0.05)  # |y|^2 of ten standard normals
        return losses[1:].mean().item()

    untrained = score(agent)
    outer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    for epoch in range(20):
        keys = keys_from_seed(0, 128, first=128 * epoch)
        for run in optenvs.unroll_windows(
            env, agent, steps=100, truncation=20, keys=keys, second_order=False
        ):
            outer.zero_grad()
            run.metrics["value"][1:].mean(1).sum().backward()
            torch.nn.utils.clip_grad_norm_(agent.parameters(), 1.0)
            outer.step()
    trained = score(agent)
    sgd = [score(agents.SGD(lr=lr)) for lr in (0.01, 0.015)]
    assert math.isfinite(trained)
    assert trained < untrained / 4
    assert trained < min(sgd)

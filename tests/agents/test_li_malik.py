"""Li and Malik's policy: what it sees and does, and that it can be trained as a learned optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.wrappers import StepControl

QUADRATIC = optenvs.make("Quadratic", dim=3, condition=3.0, budget=41, dtype="float64")


def test_its_steps_are_those_of_its_network_where_steps_are_actions() -> None:
    """The same network as an agent, and as a plain function of what StepControl shows."""
    agent = agents.LiMalik(dim=3, history=4, sample=False, scale=0.1, dtype="float64")
    assert agents.LiMalik(dim=3).size == 50 * (25 * 4) + 50 + 3 * 50 + 3 + 3
    run = optenvs.rollout(QUADRATIC, agent, batch=2, steps=9)
    env = StepControl(QUADRATIC, history=4, scale=0.1)

    def policy(observation: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            own = dict(agent.net.named_parameters())
            hidden = observation["features"] @ own["enter.weight"].T + own["enter.bias"]
            hidden = (1 + hidden.exp()).log()
            return hidden @ own["out.weight"].T + own["out.bias"]

    other = optenvs.rollout(env, agents.from_function(policy), batch=2, steps=9)
    torch.testing.assert_close(run.merit, other.merit, rtol=1e-9, atol=1e-12)


def test_coordinates_share_one_policy() -> None:
    """Where coordinates change places, so do the steps; noise belongs to the coordinate."""
    scale = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    runs = []
    for order in ([0, 1, 2], [2, 0, 1]):
        own = scale[order]
        env = optenvs.from_function(
            lambda x, own=own: (own * (x - 1).square()).sum(-1),
            dim=3,
            backend="torch",
            oracle="gradient",
            dtype="float64",
            start=[0.0, 0.0, 0.0],
        )
        agent = agents.LiMalik(sample=False, scale=0.1, dtype="float64")
        run = optenvs.rollout(env, agent, batch=1, steps=5, record=("point",))
        runs.append(run.recorded["point"])
    torch.testing.assert_close(runs[0][..., [2, 0, 1]], runs[1])


def test_a_step_is_gaussian_about_its_mean() -> None:
    settings = {"initial_std": 0.3, "scale": 0.5, "dtype": "float64"}
    quiet, drawn = agents.LiMalik(sample=False, **settings), agents.LiMalik(**settings)
    runs = [optenvs.rollout(QUADRATIC, a, batch=2000, steps=1, record=("point",)) for a in (quiet, drawn)]
    luck = (runs[1].recorded["point"][1] - runs[0].recorded["point"][1]) / 0.15
    assert luck.mean(0).abs().max() < 0.1
    assert (luck.std(0) - 1).abs().max() < 0.06
    assert torch.corrcoef(luck.T).triu(1).abs().max() < 0.1


@pytest.mark.parametrize("dim", [None, 3])
def test_it_is_trained_by_unrolling(dim: int | None) -> None:
    """30 updates through 10 steps of 64 quadratics; judged on others, and for twice as long."""
    agent = agents.LiMalik(dim=dim, history=3, hidden=16, initial_std=0.05, scale=0.1, dtype="float64")
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2)

    def left() -> float:
        run = optenvs.rollout(QUADRATIC, agent, batch=256, seed=99, steps=20)
        return float(run.merit[-1].mean() / run.merit[0].mean())

    before = left()
    for seed in range(30):
        optimizer.zero_grad()
        run = optenvs.unroll(QUADRATIC, agent, batch=64, seed=seed, steps=10, second_order=False)
        run.merit[1:].mean().backward()
        optimizer.step()
    after = left()
    assert after < 0.1
    assert after < 0.5 * before


def test_bad_input_is_told() -> None:
    with pytest.raises(ValueError, match=r"LiMalik: dim: expected that of the problem, 3, or None .* got 2"):
        optenvs.rollout(QUADRATIC, agents.LiMalik(dim=2, dtype="float64"), steps=1)
    for wrong, message in (
        ({"dim": 0}, "LiMalik: dim: expected a whole number >= 1 or None, got 0"),
        ({"history": 0}, "LiMalik: history: expected a whole number >= 1, got 0"),
        ({"initial_std": 0.0}, "LiMalik: initial_std: expected a number > 0, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            agents.LiMalik(**wrong)

"""Blocks of rows: they are all rows once, and change no number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core import blocks
from optenvs.core.blocks import row_blocks
from optenvs.core.env import OptimizationEnv
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.core.struct import tensors


def test_large_tensors_are_cut_into_all_their_rows() -> None:
    with torch.no_grad():
        cut = row_blocks(torch.zeros(5000, 1000))
        assert len(cut) == 20  # of 262 rows
        assert torch.cat([torch.arange(5000)[block] for block in cut]).equal(torch.arange(5000))
        assert len(row_blocks(torch.zeros(3, 1 << 20))) == 3  # no row is cut
        assert row_blocks(torch.zeros(4, 1000)) == [slice(0, 4)]


def test_a_graph_and_a_transform_have_all_rows_at_once() -> None:
    large = torch.zeros(5000, 1000)
    assert row_blocks(large) == [slice(0, 5000)]
    lengths: list[int] = []

    def ask(x: torch.Tensor) -> torch.Tensor:
        lengths.append(len(row_blocks(x)))
        return x.sum()

    with torch.no_grad():
        torch.func.vmap(ask)(large.unsqueeze(0))
    assert lengths == [1]


def problems(name: str, objective: str, **keywords: Any) -> OptimizationEnv:
    if name == "Ranking":
        return optenvs.make(name, objective=objective, shown=6, budget=None, **keywords)
    return optenvs.make(name, landscape=objective, particles=6, budget=None, **keywords)


CASES: dict[str, tuple[Any, OptimizationEnv]] = {
    "a shared function": (agents.ZORankSGD(), problems("Ranking", "Rosenbrock", dim=30)),
    "a function of the instance, turned": (
        agents.ZORankSGD(mu=torch.linspace(0.1, 0.2, 40), antithetic=True, include_best=True, rounds=2),
        problems("Ranking", "Quadratic", dim=30, condition=5.0, rotate=True, shift=1.0),
    ),
    "signs": (agents.ZOSign(), problems("Ranking", "Rastrigin", dim=30)),
    "gradients of particles": (
        agents.GradientDescent(),
        problems("Particles", "Quadratic", dim=30, condition=5.0, rotate=True, oracle="gradient"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_change_no_number(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = CASES[case]
    keys = keys_from_seed(0, 40)

    def run() -> dict[str, torch.Tensor]:
        state = env.reset(keys)
        memory = agent.init(state.problem, state.observation, agent_keys(keys))
        for _ in range(6):
            query, memory = agent.act(memory, state.observation)
            state = env.step(state, query)
        return tensors(state) | {f"agent {name}": leaf for name, leaf in tensors(memory).items()}

    with torch.no_grad():
        whole = run()
        # seven rows of 720 bytes a block
        monkeypatch.setattr(blocks, "WORTH_BYTES", 0)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 6000)
        found = run()
        assert len(row_blocks(env.reset(keys).observation["point"])) > 3
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        assert torch.allclose(value, found[name], rtol=1e-6, atol=1e-7), name
        if case == "a shared function":
            assert torch.equal(value, found[name]), name

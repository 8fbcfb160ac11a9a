"""Check 5 of the directional attacks (Bouchet and Vidal 2025): direct searches with a progressive barrier.

On the reactor's equations, where the constraints meet in a corner: t = 120 s and t Q = 500 J. The figures of
NOMAD are those of an independent script that lets it call back; the paper's own methods stop before that.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.adapters.nomad import Nomad

pytestmark = pytest.mark.paper

OPTIMUM = 1.862628
CORNER = (1.0, 0.2083333)
GROUPS = ((4, 5), (5, 505), (505, 605), (605, 705))  # t Q, concentrations, the coldest, the hottest


def reactor(**keywords: Any) -> Any:
    return optenvs.make("Biodiesel", surrogate="ode", formulation="constraints", **keywords)


def design(run: Any) -> Tensor:
    return run.state.hidden.best_point


@pytest.mark.ci
@pytest.mark.slow  # NOMAD's models take half a minute
def test_nomad_converges_to_the_corner() -> None:
    pytest.importorskip("PyNomad")
    agent = Nomad(groups=GROUPS)
    run = optenvs.rollout(reactor(budget=411), agent)
    spent = [live._optimizer.evaluations for live in agent._live["objects"]]
    assert all(count is not None and 286 <= count <= 410 for count in spent), spent
    assert torch.allclose(-run.best[-1], torch.tensor(OPTIMUM).double(), atol=1e-6)
    assert torch.allclose(design(run), torch.tensor(CORNER).double(), atol=1e-6)
    assert float(run.metrics["true_violation"][-1].max()) == 0.0


@pytest.mark.slow  # 400 polls, each of two hundred steps of Runge and Kutta
def test_mads_comes_near_the_corner() -> None:
    # an iteration may end after its first point: more steps than polls of four in the budget
    run = optenvs.rollout(reactor(points=4, budget=1000), agents.MADS(), batch=8, steps=600)
    assert run.state.done.all()
    within = (run.calls["value"] <= 1000).sum(0) - 1
    best = -run.best.gather(0, within.unsqueeze(0)).squeeze(0)
    assert (best >= 1.8545).all(), "the spec's least"
    assert (best >= 0.999 * OPTIMUM).all(), "what a search with new frames has reached"
    assert (best <= OPTIMUM + 1e-6).all()
    assert torch.allclose(design(run), torch.tensor(CORNER).double(), atol=0.01)

"""A replay in real processes is the rollout of the tensor environment."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.struct import tensors

RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cycle": ("NetworkQuadratic", "dadao", {"graph": "cycle"}),
    "star": ("NetworkQuadratic", "dadao", {"graph": "star"}),
    "minibatches": ("NetworkLinear", "a2cid2", {"samples": 20, "batch_size": 3, "report_every": 4.0}),
    "dual": (
        "NetworkLinear",
        "continuized",
        {"samples": 20, "oracle": "conjugate", "clock": "edges", "metric": "stale"},
    ),
}


@pytest.mark.slow
@pytest.mark.paper
@pytest.mark.parametrize("name", RUNS)
def test_it_equals_the_simulator(name: str) -> None:
    env, agent, keywords = RUNS[name]
    core, method = optenvs.make(env, nodes=4, t_max=30.0, **keywords), agents.make(agent)
    runs = optenvs.spawn_processes(core, method, seed=3, start_method="forkserver", timeout=60.0)
    simulated = optenvs.rollout(core, method, seed=3)
    record = runs[0].record
    assert record is not None and all(run.record is None for run in runs[1:])
    # the rows of the simulator at which the nodes' iterates of one time are measured
    row = [int((simulated.metrics["time"][:, 0] <= time).nonzero()[-1]) for time in record.time]
    if core.metric == "stale":
        row[0] = 0
    else:
        row = [int((simulated.metrics["time"][:, 0] == time).nonzero()[0]) for time in record.time]
        assert len(row) > 7
    if core.metric == "stale":
        row[-1] = len(simulated.merit) - 1
    assert record.calls.kinds == simulated.calls.kinds
    assert torch.equal(record.calls.counts, simulated.calls.counts[row, 0])
    for metric, values in record.metrics.items():
        expected = simulated.metrics[metric][row, 0]
        assert torch.allclose(values, expected, rtol=1e-12, atol=1e-12), metric
    assert torch.allclose(record.published[-1], simulated.state.hidden.published[0], rtol=0, atol=1e-12)
    assert torch.equal(record.gradients[-1], simulated.state.hidden.computed[0])
    whole = tensors(simulated.agent_state)
    for rank, run in enumerate(runs):
        assert run.rank == rank
        assert run.gradients == int(record.gradients[-1, rank])
        assert torch.equal(run.iterate, record.published[-1, rank])
        assert torch.allclose(run.mean, record.published[-1].mean(0), rtol=1e-14, atol=1e-14)
        own = tensors(run.agent_state)
        assert own.keys() == whole.keys()
        for path, value in own.items():
            full = whole[path]
            axis = [
                a for a, (mine, all_) in enumerate(zip(value.shape, full.shape, strict=True)) if mine != all_
            ]
            expected = full.narrow(axis[0], rank, 1) if axis else full
            assert torch.allclose(value, expected, rtol=1e-12, atol=1e-12), path

"""Runs that leave the bounds, finish early, cost more here than there, or count work of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import agents
import optenvs
from agents.core import Agent
from optenvs.bench.experiment import parse
from optenvs.bench.profiles import data_profile, performance_profile
from optenvs.bench.report import report
from optenvs.bench.results import scan
from optenvs.bench.runner import run
from optenvs.bench.sections import ExperimentError
from optenvs.bench.summary import Comparison
from optenvs.core.ledger import Ledger
from optenvs.core.struct import struct

# its least value within the box is 0, and below that outside of it
problem = optenvs.from_function(
    lambda x: x.sum(), dim=2, start=(1.0, 1.0), bounds=(0.0, 3.0), bounded=True, minimum=0.0
)


@struct
class Memory:
    steps: torch.Tensor
    finished: torch.Tensor
    work: Ledger


@dataclass(frozen=True, eq=False)
class Halving(Agent):
    """Halves the point, solves a system each time, and has finished after some steps."""

    steps: int = 5
    needs = ("gradient",)

    def init(self, problem, observation, keys):
        work = Ledger.empty(("solve",), len(keys), keys.device)
        return Memory(torch.zeros_like(keys), keys != keys, work)

    def act(self, state, observation):
        steps = state.steps + 1
        work = state.work.bill({"solve": 3})
        return observation["point"] / 2, Memory(steps, steps > self.steps, work)


def experiment(*agents_: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "tuning_seeds": 0,
        "judging_seeds": 2,
        "budget": 20,
        "tolerances": [0.5, 0.1],
        "environments": [{"id": f"{__name__}:problem", "label": "box"}],
        "agents": list(agents_),
    } | changes


STRAY = {"name": "sgd", "kwargs": {"lr": 0.3}}  # values 2, 1.4, 0.8, 0.2, and then outside
HALVING = {"name": f"{__name__}:Halving", "label": "halving"}  # 2, 1, ... 0.0625


def compared(data: dict[str, Any], folder: Any) -> Comparison:
    outcome = run(parse(data), folder, progress=False)
    assert outcome.errors == ()
    records = scan(folder).records
    return Comparison([records[name] for name in outcome.manifest.runs])


@pytest.mark.usefixtures("unpainted")
def test_an_agent_that_leaves_the_box_earns_nothing_there(tmp_path):
    comparison = compared(experiment(STRAY, HALVING), tmp_path)
    for record in comparison.cells["box", "sgd"].records:
        curves = record.curves
        np.testing.assert_allclose(curves["metrics/gap"][:5], [2, 1.4, 0.8, 0.2, 0.2], rtol=1e-5)
        np.testing.assert_allclose(curves["metrics/gap"][4:], 0.2, rtol=1e-5)
        assert curves["calls/gradient"][-1] == 20  # what is asked outside is billed, and solves nothing
        assert curves["metrics/outside"].tolist() == [0, 0, 0, 0, *range(1, 17)]
    table = comparison.table().set_index("agent")
    assert table["median"].to_dict() == pytest.approx({"sgd": 0.2, "halving": 0.0625}, rel=1e-5)
    # half of the way from 2 to 0.0625 is at 1.03, nine tenths are at 0.256
    costs = comparison.costs()
    assert (costs * 20).tolist() == [[[3, 4], [2, 4]]] * 2
    assert np.isinf(comparison.costs((0.01,))[:, 0]).all()  # below 0.082 it was only outside
    assert performance_profile(comparison.costs((0.01,))[..., 0], [1.0, 100.0]).tolist() == [[0, 0], [1, 1]]
    line = (
        "box, sgd: 32 points outside of the bounds were asked, in 2 of 2 runs; "
        "they were billed, and earned no credit"
    )
    assert comparison.notes == [line]
    assert line in report(tmp_path)[0].read_text()


def test_a_run_whose_agent_has_finished_ends_there(tmp_path):
    comparison = compared(experiment(HALVING, {"name": "sgd", "kwargs": {"lr": 0.01}}), tmp_path)
    for record in comparison.cells["box", "halving"].records:
        assert record.ok
        # its last step says so, and asks nothing
        assert record.curves["calls/gradient"].tolist() == [1, 2, 3, 4, 5, 6, 6]
        assert record.curves["metrics/gap"].tolist() == [2, 1, 0.5, 0.25, 0.125, 0.0625, 0.0625]
    assert comparison.cells["box", "halving"].finals.tolist() == [0.0625, 0.0625]  # what it held to the end
    grid = np.array([0.5, 5.5, 6, 20, 50])
    curve = comparison.cells["box", "halving"].curves(grid)[0]
    assert curve.tolist() == [np.inf, 0.125, 0.0625, 0.0625, 0.0625]


def test_nothing_beyond_the_budget_counts_where_cost_varies(tmp_path):
    line_search = {"name": "random_line_search"}
    attacks = {"name": "directional_attack"}
    where = [{"id": "Biodiesel", "kwargs": {"points": 20, "oracle": "vjp"}}]
    comparison = compared(experiment(line_search, attacks, environments=where, budget=60), tmp_path)
    for cell in comparison.cells.values():
        for record in cell.records:
            spent = record.curves["calls/value"]
            assert (np.diff(spent) >= 0).all() and len(np.unique(np.diff(spent))) > 1
            assert spent[-1] <= 60
    search = comparison.cells["Biodiesel", "random_line_search"].records
    assert all(record.curves["calls/value"][-1] == 60 for record in search)  # until all is spent
    costs = comparison.costs((0.9, 0.5, 1e-3))
    assert np.isfinite(costs).any() and costs[np.isfinite(costs)].max() <= 1
    shares = data_profile(costs[..., 2], np.ones(len(costs)), [1.0, 10.0])
    assert (shares[:, 0] == shares[:, 1]).all()


@pytest.mark.usefixtures("unpainted")
def test_an_experiment_names_the_axes_of_its_figures(tmp_path):
    data = experiment(HALVING, {"name": "sgd", "kwargs": {"lr": 0.01}}, axes=["value", "work:solve"])
    comparison = compared(data, tmp_path)
    (first, _) = comparison.cells["box", "halving"].records
    assert first.curves["work/solve"].tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert "work/solve" not in comparison.cells["box", "sgd"].records[0].curves
    paths = report(tmp_path)
    assert [path.name for path in paths[-2:]] == ["progress_value.png", "progress_work_solve.png"]
    assert "Progress by work_solve" in paths[0].read_text() and "axes = [" in paths[0].read_text()


@pytest.mark.usefixtures("unpainted")
def test_axes_that_are_not_there(tmp_path):
    with pytest.raises(ExperimentError, match="axes: no oracle 'gradients'; did you mean 'gradient'"):
        run(parse(experiment(HALVING, axes=["gradients"])), tmp_path, progress=False)
    with pytest.raises(
        ExperimentError, match=r"axes: found \[1\] \(list\), expected a list of ledger columns"
    ):
        parse(experiment(HALVING, axes=[1]))
    compared(experiment(HALVING, axes=["work:solves"]), tmp_path)
    page = report(tmp_path)[0].read_text()
    assert "axes: no ledger column &#39;work:solves&#39;; there are" in page and "work/solve" in page


def test_the_documented_axis_of_work_is_there():
    env = optenvs.make("ReluBox", oracle="value", white_box=True, budget=2, points=1)
    assert "relaxation" in optenvs.rollout(env, agents.RelaxAndWalk()).work

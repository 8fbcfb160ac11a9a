"""The runner: what is missing is done, once, with the same numbers whatever happened before."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import agents
import optenvs
from agents.core import Agent
from optenvs.bench.curves import kept_rows
from optenvs.bench.experiment import parse
from optenvs.bench.manifest import MANIFEST
from optenvs.bench.plan import build
from optenvs.bench.report import report
from optenvs.bench.results import read, scan, write
from optenvs.bench.runner import run
from optenvs.bench.sections import ExperimentError
from optenvs.bench.statistics import best_so_far, final_value
from optenvs.bench.summary import Comparison

DATA = {
    "name": "tiny",
    "tuning_seeds": 2,
    "judging_seeds": 3,
    "budget": 60,
    "environments": [
        {"id": "optenvs/Rosenbrock-v0", "label": "Valley", "kwargs": {"dim": 3}},
        {"id": "optenvs/DiffGradF2-v0", "label": "F2", "kwargs": {"instance": "random"}},
    ],
    "agents": [
        {"name": "sgd", "label": "plain", "grid": {"lr": [1e-5, 1e-3, 10.0]}},
        {"name": "sgd", "label": "momentum", "kwargs": {"momentum": 0.9, "lr": 1e-4}},
    ],
}


@pytest.fixture
def data():
    return copy.deepcopy(DATA)


@dataclass(frozen=True, eq=False)
class Broken(Agent):
    """Raises at its first action."""

    def init(self, problem, observation, keys):
        return None

    def act(self, state, observation):
        raise RuntimeError("the oracle\nis offended")


@pytest.fixture
def broken():
    agents.register("broken", f"{__name__}:Broken")
    yield "broken"
    del agents._AGENTS["broken"]


def numbers(folder):
    """Everything that a rerun must give again: status and curves by run, without the clock."""
    records = scan(folder).records
    return {
        name: (r.status, {k: v.tobytes() for k, v in r.curves.items() if k != "time"})
        for name, r in records.items()
    }


def judged(folder):
    records = scan(folder).records
    return [records[name] for name in json.loads((folder / MANIFEST).read_text())["runs"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    outcome = run(parse(DATA), folder, progress=False)
    return folder, outcome


def test_all_runs_are_there(finished):
    folder, outcome = finished
    # 2 environments x (3 candidates x 2 tuning seeds + 2 agents x 3 judging seeds)
    assert (outcome.computed, outcome.reused, outcome.errors) == (24, 0, ())
    records = judged(folder)
    assert len(records) == 12
    for record in records:
        assert record.curves["calls/gradient"][[0, -1]].tolist() == [1, 60]
        assert record.curves["time"][0] == 0
        assert record.curves["time"][-1] > 0
    comparison = Comparison(records)
    assert (comparison.environments, comparison.agents) == (["Valley", "F2"], ["plain", "momentum"])
    assert comparison.notes == []


def test_tuning_picks_the_best_rate_and_counts_diverging_ones(finished):
    folder, _ = finished
    tuning = [r for r in scan(folder).records.values() if r.spec.phase == "tune"]
    finals = {}
    for record in tuning:
        where = record.environment_label, record.spec.hyperparameters["lr"]
        finals.setdefault(where, []).append(final_value(record))
    # 10 is far beyond 2 / curvature; the best of the others is found here once more, by hand
    assert all(np.isinf(finals["Valley", 10.0]))
    valley = [r for r in tuning if r.environment_label == "Valley"]
    assert {r.status for r in valley if r.spec.hyperparameters["lr"] == 10.0} == {"diverged"}
    for environment in ("Valley", "F2"):
        best = min((np.median(v), lr) for (label, lr), v in finals.items() if label == environment)[1]
        chosen = {
            r.spec.hyperparameters["lr"]
            for r in judged(folder)
            if (r.environment_label, r.agent_label) == (environment, "plain")
        }
        assert chosen == {best}


def test_agents_meet_the_same_instances_and_never_those_of_the_tuning(finished):
    folder, _ = finished
    records = scan(folder).records.values()
    for environment in ("Valley", "F2"):
        mine = [r for r in records if r.environment_label == environment]
        seeds = {
            (r.agent_label, r.spec.phase, r.spec.repetition): (r.spec.seed, r.curves["metrics/value"][0])
            for r in mine
        }
        for i in range(3):
            assert seeds["plain", "judge", i] == seeds["momentum", "judge", i]
        tuned = {r.spec.seed for r in mine if r.spec.phase == "tune"}
        assert not tuned & {r.spec.seed for r in mine if r.spec.phase == "judge"}
        assert len({r.spec.seed for r in mine}) == 5


def test_a_run_can_be_repeated_alone(finished):
    record = judged(finished[0])[0]
    spec = record.spec
    env = optenvs.make(spec.environment, **spec.environment_kwargs, budget=spec.budget)
    alone = optenvs.rollout(env, agents.make(spec.agent, **spec.hyperparameters), seed=spec.seed)
    gap = alone.metrics["gap"][:, 0].numpy()
    np.testing.assert_allclose(gap, record.curves["metrics/gap"], rtol=1e-4)


def test_a_rerun_does_only_what_is_missing_and_gives_the_same(finished, tmp_path):
    folder, _ = finished
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    assert run(parse(DATA), copied, progress=False).computed == 0
    files = sorted(copied.glob("*.npz"))
    lost = [files[1], files[7], files[-1]]
    for path in lost:
        path.unlink()
    files[10].write_bytes(files[10].read_bytes()[:200])
    kept = {p: p.read_bytes() for p in files if p not in (*lost, files[10])}
    outcome = run(parse(DATA), copied, progress=False)
    assert (outcome.computed, outcome.reused) == (4, 20)
    assert len(outcome.warnings) == 1
    assert files[10].name in outcome.warnings[0]
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert numbers(copied) == numbers(folder)


def test_a_killed_process_leaves_whole_files_and_is_finished_by_a_rerun(data, tmp_path):
    data["budget"] = 300
    data["environments"] = data["environments"][:1]
    data["agents"][0]["grid"] = {"lr": [1e-5 * 1.1**i for i in range(20)]}
    killed, clean = tmp_path / "killed", tmp_path / "clean"
    killed.mkdir()
    (killed / "experiment.json").write_text(json.dumps(data))
    code = (
        "import json, sys; from pathlib import Path; from optenvs.bench.experiment import parse\n"
        "from optenvs.bench.runner import run\n"
        "folder = Path(sys.argv[1])\n"
        "run(parse(json.loads((folder / 'experiment.json').read_text())), folder, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)])
    deadline = time.monotonic() + 300  # the start of Python alone takes a minute on a busy machine
    while len(list(killed.glob("*.npz"))) < 7:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = scan(killed)
    assert not found.warnings
    total = 20 * 2 + 2 * 3
    assert 7 <= len(found.records) < total
    outcome = run(parse(data), killed, progress=False)
    assert (outcome.reused, outcome.computed) == (len(found.records), total - len(found.records))
    run(parse(data), clean, progress=False)
    assert numbers(killed) == numbers(clean)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_the_engine_changes_no_number(finished, data, tmp_path, backend):
    data["engine"] = {"backend": backend, "jobs": 2}
    outcome = run(parse(data), tmp_path, progress=False)
    assert outcome.computed == 24
    assert numbers(tmp_path) == numbers(finished[0])
    threads = torch.get_num_threads()
    data["engine"] = {"backend": "sequential"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert run(parse(data), tmp_path, progress=False).computed == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert torch.get_num_threads() == threads


def test_new_labels_and_measures_need_no_rerun(finished, data, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    data["environments"][0] |= {"label": "Banana", "metric": "distance", "best_so_far": False}
    data["tolerances"] = [0.5]
    outcome = run(parse(data), folder, progress=False)
    # another metric may choose another rate, whose judged runs are then new
    assert outcome.computed in (0, 3)
    for record in judged(folder):
        assert record.measure.tolerances == (0.5,)
        assert record.config["environments"][0]["label"] == "Banana"
        if record.environment_label == "Banana":
            assert record.measure.metric == "metrics/distance"
            assert not record.measure.best_so_far
    assert Comparison(judged(folder)).environments == ["Banana", "F2"]


def test_a_failing_agent_is_told_and_stops_nobody(data, tmp_path, broken):
    data["agents"].append({"name": broken})
    outcome = run(parse(data), tmp_path, progress=False)
    assert outcome.errors == (
        "broken on Valley: error: RuntimeError: the oracle is offended",
        "broken on F2: error: RuntimeError: the oracle is offended",
    )
    comparison = Comparison(judged(tmp_path))
    table = comparison.table().set_index(["environment", "agent"])
    assert table.loc[("Valley", "broken"), "failures"] == 3
    assert np.isinf(table.loc[("Valley", "broken"), "median"])
    assert table.loc[("Valley", "plain"), "failures"] == 0
    assert "Valley, broken: 3 of 3 runs raised: RuntimeError: the oracle is offended" in comparison.notes
    again = run(parse(data), tmp_path, progress=False)
    assert (again.computed, again.reused) == (6, 24)  # the reason may have gone


def test_an_agent_whose_every_rate_diverges_is_judged_so(data, tmp_path):
    data["agents"] = [{"name": "sgd", "grid": {"lr": [10.0, 20.0]}}]
    data["environments"] = data["environments"][:1]
    run(parse(data), tmp_path, progress=False)
    records = judged(tmp_path)
    assert [r.status for r in records] == ["diverged"] * 3
    assert Comparison(records).table()["failures"].tolist() == [3]
    assert report(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["environments", 0, "id"], "Rosenbrok", r"environments\[0\] 'Valley': .*'Rosenbrok'"),
        (["environments", 0, "kwargs"], {"dims": 3}, r"'Valley': .*'dims'; did you mean 'dim'"),
        (["environments", 0, "kwargs"], {"dim": 1}, "'Valley': dim: .*at least 2, got 1"),
        (["environments", 0, "kwargs"], {"budget": 3}, "kwargs.budget"),
        (["environments", 1, "cost"], "hvp", "'F2': cost: no oracle 'hvp'"),
        (["environments", 1, "metric"], "gaps", "'F2': metric: no 'gaps'; did you mean 'gap'"),
        (["environments", 1, "kwargs"], {"oracle": "value"}, "'plain': agent sgd needs .*gradient"),
        (["agents", 1, "name"], "sdg", r"agents\[1\] 'momentum': no agent 'sdg'; did you mean 'sgd'"),
        (["agents", 1, "kwargs"], {"momentun": 1}, "'momentun'; did you mean 'momentum'"),
        (["agents", 1, "kwargs"], {"momentum": 2}, r"momentum: expected a number in \[0, 1\), got 2"),
        (["agents", 1, "kwargs"], {"lr": 1e-5}, "'momentum' on 'Valley' .* is the same run as 'plain'"),
    ],
)
def test_mistakes_are_found_before_the_first_run(data, tmp_path, path, value, message):
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ExperimentError, match=message):
        run(parse(data), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_defaults_of_cost_and_metric(data):
    plan = build(parse(data))
    assert {(p.cost, p.measure.metric) for p in plan.problems} == {("calls/gradient", "metrics/gap")}
    data |= {"cost": "calls/value", "metric": "metrics/distance"}
    plan = build(parse(data))
    assert {(p.cost, p.measure.metric) for p in plan.problems} == {("calls/value", "metrics/distance")}


def test_a_budget_in_another_column_is_kept(data, tmp_path):
    data["environments"] = [{"id": "TrainDigits", "kwargs": {"model": "logistic"}, "cost": "samples"}]
    data |= {"budget": 2000, "metric": "test_error", "tuning_seeds": 1, "judging_seeds": 1}
    data["agents"] = data["agents"][1:]
    run(parse(data), tmp_path, progress=False)
    (record,) = judged(tmp_path)
    curves = record.curves
    # 2,000 pay 62 minibatches of 32; 44 make an epoch, so the end is measured apart
    assert curves["calls/gradient"][-1] == 62
    assert curves["calls/samples"][-1] == 1984
    np.testing.assert_allclose(curves["metrics/test_error"], 1 - curves["metrics/test_accuracy"])
    env = optenvs.make("TrainDigits", model="logistic", budget={"samples": 2000})
    alone = optenvs.rollout(env, agents.make("sgd", **record.spec.hyperparameters), seed=record.spec.seed)
    end = env.evaluate(alone.state).metrics["test_loss"][0].item()
    assert curves["metrics/test_loss"][-1] == pytest.approx(end, rel=1e-5)
    assert curves["metrics/test_loss"][-1] != curves["metrics/test_loss"][-2]
    assert np.flatnonzero(curves["evaluated"]).tolist() == [0, 44, 61]


def test_thinning_keeps_the_ends_the_minima_and_the_evaluations():
    generator = np.random.default_rng(0)
    cost = np.cumsum(generator.integers(1, 4, 10_000))
    values = np.exp(-1e-3 * cost) + 0.1 * generator.normal(size=len(cost))
    values[17::1000] = np.nan
    measured = np.arange(0, 10_000, 500)
    keep = kept_rows(cost, values, measured, 512)
    assert len(keep) <= 512
    assert (keep[0], keep[-1]) == (0, 9_999)
    assert set(measured) | set(range(64)) <= set(keep.tolist())
    assert best_so_far(values)[-1] == best_so_far(values[keep])[-1]
    # at the last row of every cell the best so far is exact
    whole, thin = best_so_far(values)[keep], best_so_far(values[keep])
    assert np.mean(whole == thin) > 0.5
    assert np.all(thin >= whole)
    assert np.diff(cost[keep]).max() <= (cost[-1] - cost[63]) / 200
    assert kept_rows(cost[:512], values[:512], measured, 512).tolist() == list(range(512))
    assert len(kept_rows(cost, values, np.arange(10_000), 512)) <= 512


def test_long_runs_are_thinned(data, tmp_path):
    data["environments"] = data["environments"][:1]
    data["agents"] = data["agents"][1:]
    data |= {"budget": 1500, "tuning_seeds": 0, "judging_seeds": 1}
    run(parse(data), tmp_path, progress=False)
    (path,) = tmp_path.glob("*.npz")
    curves = read(path).curves
    assert len(curves["time"]) <= 512
    assert curves["calls/gradient"][[0, -1]].tolist() == [1, 1500]


def test_an_old_error_is_not_a_result(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    record = judged(folder)[0]
    write(dataclasses.replace(record, status="error: no memory", curves={}), folder)
    assert run(parse(DATA), folder, progress=False).computed == 1
    assert numbers(folder) == numbers(finished[0])

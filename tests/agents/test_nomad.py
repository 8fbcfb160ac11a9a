"""NOMAD, which calls back, as an agent that is asked and told; its processes end with it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from surrogate_problems import TanhDisc, TanhTask

import agents
import optenvs
from agents.adapters.nomad import Nomad, NomadProcess
from optenvs.core.struct import tensors

pytest.importorskip("PyNomad")

DISC = TanhDisc(formulation="constraints")
BOX = np.array([-1.0, -1.0]), np.array([1.0, 1.0])


def bowl(x: np.ndarray) -> float:
    return float((x[0] - 0.3) ** 2 + 3 * (x[1] + 0.6) ** 2)


def test_asked_and_told_it_does_what_it_does_when_it_calls_back() -> None:
    import PyNomad

    called: list[tuple[float, ...]] = []

    def blackbox(point: Any) -> int:
        x = tuple(point.get_coord(i) for i in range(2))
        called.append(x)
        point.setBBO(f"{bowl(np.array(x))!r} {x[0] + x[1]!r}".encode())
        return 1

    lines = ["BB_OUTPUT_TYPE OBJ PB", "DISPLAY_DEGREE 0", "SEED 3", "MAX_BB_EVAL 40"]
    expected = PyNomad.optimize(blackbox, [0.9, 0.9], [-1.0, -1.0], [1.0, 1.0], lines)
    process = NomadProcess(np.array([0.9, 0.9]), *BOX, lines)
    asked = []
    for _ in range(1000):
        x = process.ask()
        if process.evaluations is not None:
            break
        asked.append(tuple(x))
        process.tell(x, [bowl(x), x[0] + x[1]])
    assert asked == called and process.evaluations == expected["nb_evals"]
    # after the end: the best point, again and again
    assert np.allclose(process.ask(), expected["x_best_feas"][0])
    process.tell(process.ask(), [0.0, 0.0])
    assert np.allclose(process.ask(), [0.3, -0.6], atol=0.05)


def test_it_is_told_of_the_start_and_does_not_ask_it() -> None:
    run = optenvs.rollout(DISC, Nomad(), batch=2, steps=20, record=("point", "value"))
    points, starts = run.recorded["point"], run.recorded["point"][0]
    assert not (points[1:] == starts).all(-1).any()
    process = NomadProcess(np.array([0.9, 0.9]), *BOX, ["BB_OUTPUT_TYPE OBJ", "DISPLAY_DEGREE 0"])
    start = process.ask()
    assert np.array_equal(start, [0.9, 0.9])
    process.tell(start, bowl(start))
    known = NomadProcess(
        np.array([0.9, 0.9]), *BOX, ["BB_OUTPUT_TYPE OBJ", "DISPLAY_DEGREE 0"], first=[bowl(start)]
    )
    for _ in range(20):
        asked = known.ask()
        assert np.array_equal(asked, process.ask())
        for each in (known, process):
            each.tell(asked, bowl(asked))


def test_constraints_reach_it() -> None:
    free = optenvs.rollout(DISC, Nomad(groups=()), batch=2, steps=30)
    told = optenvs.rollout(DISC, Nomad(), batch=2, steps=30)
    grouped = optenvs.rollout(DISC, Nomad(groups=((0, 2),)), batch=2, steps=30)
    assert (told.best[-1] < free.best[-1] - 0.05).all()
    assert (grouped.best[-1] < free.best[-1] - 0.05).all()


def test_points_without_a_value_are_failures() -> None:
    env = TanhDisc(formulation="constraints", edge=0.2)
    run = optenvs.rollout(env, Nomad(), batch=3, steps=60)
    assert float(run.metrics["failed"].sum()) > 0
    # NOMAD gives up where the start itself has no value
    begun = run.metrics["failed"][0] == 0
    assert int(begun.sum()) == 2
    assert (run.best[-1] < run.best[0] - 0.1)[begun].all()


def test_a_resumed_run_is_the_long_run(tmp_path: Path) -> None:
    whole = optenvs.rollout(DISC, Nomad(), batch=2, steps=20)
    half = optenvs.rollout(DISC, Nomad(), batch=2, steps=9)
    optenvs.save(tmp_path / "run", half)
    rest = optenvs.rollout(
        DISC, Nomad(), steps=11, resume=optenvs.load(tmp_path / "run", classes=(TanhTask,))
    )
    left, right = tensors(rest.agent_state), tensors(whole.agent_state)
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert torch.equal(rest.state.best, whole.state.best)


def test_its_processes_end_with_it() -> None:
    agent = Nomad()
    optenvs.rollout(DISC, agent, batch=3, steps=3)
    running = [live._optimizer._process for live in agent._live["objects"]]
    assert all(process.poll() is None for process in running)
    del agent
    gc.collect()
    assert all(process.returncode is not None for process in running)


def test_its_error_is_raised_here() -> None:
    with pytest.raises(RuntimeError, match="nomad: its process ended"):
        optenvs.rollout(DISC, Nomad(settings=("BB_OUTPUT_TYPE NONSENSE",)), steps=1)


def test_a_process_that_is_gone_is_an_error() -> None:
    process = NomadProcess(np.zeros(2), *BOX, ["BB_OUTPUT_TYPE OBJ", "DISPLAY_DEGREE 0"])
    x = process.ask()
    process._process.kill()
    process._process.wait()
    process.tell(x, 1.0)
    with pytest.raises(RuntimeError, match="nomad: its process ended"):
        process.ask()


def test_without_the_package_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PyNomad.py").write_text("raise ImportError('nothing here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match="NOMAD needs PyNomadBBO.*nothing here"):
        optenvs.rollout(DISC, Nomad(), steps=1)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="Nomad: groups: expected pairs"):
        agents.Nomad(groups=((3, 1),))
    with pytest.raises(ValueError, match="Nomad: settings: expected a tuple"):
        agents.Nomad(settings="DISPLAY_DEGREE 0")
    with pytest.raises(ValueError, match="groups: there are 2 constraints, got 5"):
        optenvs.rollout(DISC, Nomad(groups=((0, 5),)), steps=1)
    with pytest.raises(ValueError, match="points: expected an environment of one point a query"):
        optenvs.rollout(TanhDisc(formulation="constraints", points=2), Nomad(), steps=1)

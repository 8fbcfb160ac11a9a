"""A node that is killed, stopped or hangs ends the run: named, in time, with the survivors' states saved."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from faulty_network import FaultyNetwork

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.struct import tensors
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.processes.watch import GRACE, NodeFailure, Over, Watch
from optenvs.processes.wire import Place, meet

TIMEOUT = 4.0
ROOT = Path(__file__).parents[2]


def states(folder: Path) -> dict[int, Any]:
    loaded = [optenvs.load(path) for path in folder.glob("*")]
    return {state["node"]: state for state in loaded}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        ("replay", "kill"),
        ("replay", "stop"),
        ("replay", "hang"),
        ("wall_clock", "kill"),
        ("wall_clock", "stop"),
        ("wall_clock", "raise"),
        ("wall_clock", "term"),
    ],
)
def test_the_others_name_it_and_save(mode: str, fault: str, tmp_path: Path) -> None:
    clock, folder = tmp_path / "clock", tmp_path / "states"
    core = FaultyNetwork(nodes=4, graph="path", t_max=1000.0, fault=fault, clock_file=str(clock))
    others = set(multiprocessing.active_children())  # of other tests: joblib keeps its workers for a while
    with pytest.raises(NodeFailure) as caught:
        optenvs.spawn_processes(
            core, agents.make("dadao"), mode=mode, folder=folder, timeout=TIMEOUT, start_method="forkserver"
        )
    over = time.time()
    assert not set(multiprocessing.active_children()) - others
    failed = float(clock.read_text())
    sees = TIMEOUT if fault in ("stop", "hang") else 0.0
    assert over - failed < sees + 3 * GRACE + 3.0
    error = caught.value
    assert error.node == 2
    what = {
        "kill": "node 2 is gone (its connection to node",
        "stop": "node 2 has not been heard of for 4.",
        "hang": "node 2 hangs: it has been computing its gradient 6 for 4.",
        "raise": "node 2 failed: ArithmeticError: no gradient here",
        "term": "node 2 was told to end (SIGTERM)",
    }[fault]
    saved = states(folder)
    for rank in (0, 1, 3):
        said = error.reports[rank]
        assert said.startswith(what)
        # a kill is noticed at once: its neighbour may still have been at an event of its own
        assert f"node {rank} was waiting for" in said or (
            fault == "kill" and f"node {rank} was at its" in said
        )
        assert f"node {rank}: exit code 1" in str(error)
        assert said.endswith(f"node_{rank}.safetensors")
        # whole, and of then
        state, path = saved[rank], folder / f"node_{rank}.safetensors"
        assert path.stat().st_mtime - failed < sees + GRACE + 2.0
        assert state["doing"] in said
        assert state["gradients"] > 0 and state["exchanges"] > 0
        assert all(value.isfinite().all() for value in tensors(state["agent"]).values())
        assert state["iterate"].shape == (1, 1, 2)
    if mode == "replay" and fault != "kill":
        assert "waiting for the message of node 2" in saved[1]["doing"]
    assert (2 in saved) == (fault in ("hang", "raise", "term")), "who can still save, saves"
    assert not list(folder.glob("*.part*"))


@dataclass(frozen=True, eq=False, kw_only=True)
class DeadOnArrival(NetworkQuadratic):
    """Node 2 is killed before it has begun: its process builds the network, and is gone."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if multiprocessing.current_process().name == "node 2":
            os.kill(os.getpid(), signal.SIGKILL)
        for name, value in state.items():
            object.__setattr__(self, name, value)


@pytest.mark.slow
def test_a_node_that_is_killed_as_it_starts_is_named_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(NodeFailure, match=r"^node 2 was killed \(signal 9\)") as caught:
        optenvs.spawn_processes(
            DeadOnArrival(nodes=3, graph="path"),
            agents.make("dadao"),
            timeout=300.0,
            start_method="forkserver",
        )
    assert caught.value.node == 2
    assert time.monotonic() - begun < 300.0, "nobody waits for it"


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import agents, optenvs
from faulty_network import FaultyNetwork

core = optenvs.make("NetworkQuadratic", nodes=4, t_max=5.0)
run = optenvs.run_processes(core, agents.make("dadao"))
if run.rank == 0:
    print("gradients", int(run.record.calls["gradient"][-1]))
core = FaultyNetwork(nodes=4, t_max=1000.0, fault="kill", clock_file={clock!r})
optenvs.run_processes(core, agents.make("dadao"), folder={folder!r}, timeout=20.0)
"""


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    script = tmp_path / "script.py"
    names = {"tests": str(ROOT / "tests"), "clock": str(tmp_path / "clock"), "folder": str(folder)}
    script.write_text(SCRIPT.format(**names))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4", "--standalone"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*launcher, str(script)], capture_output=True, text=True, check=False, env=env, timeout=120
    )
    core = optenvs.make("NetworkQuadratic", nodes=4, t_max=5.0)
    simulated = optenvs.rollout(core, agents.make("dadao"))
    assert f"gradients {int(simulated.calls['gradient'][-1])}" in run.stdout
    assert run.returncode != 0
    assert run.stderr.count("NodeFailure: node 2 is gone") == 3
    assert "exitcode  : -9" in run.stderr
    assert set(states(folder)) == {0, 1, 3}


def watches(count: int, timeout: float) -> list[Watch]:
    store = dist.HashStore()  # type: ignore[attr-defined]
    made = [Watch(store, rank, count, timeout, lambda: None) for rank in range(count)]
    for watch in made:
        store.compare_set("verdict", "", "-")
        watch.post()
    return made


def test_a_run_that_stands_still_is_an_error() -> None:
    one, other = watches(2, 0.2)
    one.doing("waiting", "waiting for the message of node 1")
    other.doing("gradient", "computing")
    for watch in (one, other):
        watch.begin()
    time.sleep(0.1)
    one.check()  # the other one computes
    other.doing("waiting", "waiting for the message of node 0")
    time.sleep(0.5)
    for watch in (one, other):
        with pytest.raises(Over):
            watch.check()
        watch._closed.set()
    message = str(one.failure())
    assert "all nodes have been waiting for 0.2 s: node 0 was waiting for the message of node 1" in message
    assert "node 1 was waiting for the message of node 0" in message
    assert "nothing was saved (no folder was given)" in message


class Silent:
    """A store that takes everything, and answers questions no more."""

    def compare_set(self, *_: str) -> bytes:
        return b"-"

    def set(self, *_: str) -> None: ...

    def multi_get(self, _: list[str]) -> None:
        time.sleep(3600)


@pytest.mark.parametrize(("host", "whose"), [(0, "node 0's store"), (None, "the launcher's store")])
def test_a_store_that_does_not_answer_ends_the_run(host: int | None, whose: str) -> None:
    watch = Watch(Silent(), 1, 2, 0.3, lambda: Path("there"), host)
    with watch.standing():
        watch.begin()
        time.sleep(0.2)
        watch.check()
        time.sleep(0.4)
        with pytest.raises(Over):
            watch.check()
        error = watch.failure()
    assert error.node == host
    assert str(error).startswith(f"{whose} has not answered for 0.")
    assert str(error).endswith("its last state is in there")


def test_the_first_verdict_holds() -> None:
    one, other = watches(2, 10.0)
    one.fail(1, "node 1 is gone")
    other.fail(0, "node 0 is gone")
    assert [watch.failure().node for watch in (one, other)] == [1, 1]


def test_a_node_that_has_finished_may_leave() -> None:
    one, other = watches(2, 10.0)
    other._done = True
    other.post()
    one.lost(1)
    one.check()
    other._done = False
    other.post()
    one.lost(1)
    with pytest.raises(Over):
        one.check()


def test_who_did_not_join_is_named() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    store.set("here/2", "card")
    place = Place(rank=0, size=4, address="127.0.0.1", port=1, hosted=True)
    with pytest.raises(NodeFailure, match="node 1, 3 did not join within 0.1 s"):
        meet(store, place, 0.1, "card")


def test_nodes_with_other_arguments_are_refused() -> None:
    from optenvs.processes.run import _fingerprint

    keys = torch.tensor([1])
    cores = [
        optenvs.make("NetworkQuadratic", nodes=4, **changes)
        for changes in ({}, {"graph": "star"}, {"t_max": 7.0}, {"L": 9.0}, {"dim": 3})
    ]
    agent = agents.make("dadao")
    prints = {_fingerprint(core.node(keys, 0), agent, "replay", 10) for core in cores}
    prints |= {_fingerprint(cores[0].node(keys, 0), agents.make("a2cid2"), "replay", 10)}
    assert len(prints) == 6
    same = [_fingerprint(cores[0].node(keys, rank), agent, "replay", 10) for rank in range(4)]
    assert len(set(same)) == 1


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"budget": 10}, {}, "budget: expected None"),
        ({"tolerance": 0.1}, {}, "tolerance: expected None"),
        ({}, {"mode": "fast"}, "mode: expected one of replay, wall_clock, got 'fast'"),
        ({}, {"timeout": 0.0}, "timeout: expected a number of seconds > 0"),
        ({}, {"lead": 0}, "lead: expected a number >= 1 or None, got 0"),
        ({}, {"gradients": 5}, "gradients: expected a number >= 1, by the clock only"),
        ({"nodes": 3}, {}, "has 3 nodes, expected as many processes, got 4"),
        ({"graph": ["path", "star"]}, {"mode": "wall_clock"}, "wall_clock needs one graph"),
        ({"clock": "edges"}, {"mode": "wall_clock"}, "wall_clock needs one graph"),
    ],
)
def test_bad_arguments(
    changes: dict[str, Any], options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    core = optenvs.make("NetworkQuadratic", **({"nodes": 4} | changes))
    with pytest.raises(ValueError, match=message):
        optenvs.run_processes(core, agents.make("dadao"), **options)


def test_what_cannot_run_in_processes() -> None:
    network, dadao = optenvs.make("NetworkQuadratic", nodes=4), agents.make("dadao")
    for taken in (network, "NetworkQuadratic", optenvs.parallel_env(network)):
        with pytest.raises(
            RuntimeError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set; start the script"
        ):
            optenvs.run_processes(taken, dadao)
    for one in (optenvs.make("Rosenbrock"), "Rosenbrock"):
        for start in (optenvs.run_processes, optenvs.spawn_processes):
            with pytest.raises(TypeError, match="core: expected a problem of many agents, got Rosenbrock"):
                start(one, dadao)
    with pytest.raises(TypeError, match="expected a problem .* an id, or an environment of optenvs"):
        optenvs.run_processes(3, dadao)
    with pytest.raises(TypeError, match="agent: expected one that runs node by node, got str"):
        optenvs.run_processes(network, "dadao")
    with pytest.raises(OracleMismatch, match="DADAO needs the oracle"):
        optenvs.run_processes(network.replace(clock="rounds"), dadao)

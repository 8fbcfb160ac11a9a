"""Start the processes of a run from one program: a test, a notebook, a script without a launcher."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import torch

from optenvs.core.multi import MultiAgentEnv
from optenvs.core.rollout import SupportsActing
from optenvs.core.snapshot import load, save

from .record import ProcessRun
from .run import many_agents, run_processes
from .watch import GRACE, NodeFailure
from .wire import open_store


def spawn_processes(
    core: MultiAgentEnv | Any,
    agent: SupportsActing,
    *,
    timeout: float = 30.0,
    start_method: str = "spawn",
    classes: tuple[type, ...] = (),
    **options: Any,
) -> list[ProcessRun]:
    """A decentralized run with one process a node on this machine; what each of them returns.

    Args:
        core: the problem, as for :func:`optenvs.run_processes`; it is pickled, and so is the agent.
        agent: likewise.
        timeout: likewise.
        start_method: of ``multiprocessing``; ``spawn`` works everywhere (a script then needs its
            ``if __name__ == "__main__"``), ``forkserver`` starts faster.
        classes: of the agent's state, where they are not this project's.
        **options: the other keywords of :func:`optenvs.run_processes`.

    Raises:
        NodeFailure: a node failed; ``reports`` holds what each survivor said. All processes have ended.
    """
    core = many_agents(core)
    host = "127.0.0.1"
    store = open_store(host, 0, timeout, hosts=True)
    context: Any = get_context(start_method)
    if start_method == "forkserver":
        context.set_forkserver_preload([__name__])
    shared = {
        "WORLD_SIZE": str(core.agents),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    options |= {"timeout": timeout}
    with tempfile.TemporaryDirectory(prefix="optenvs") as name:
        folder, processes = Path(name), []
        try:
            for rank in range(core.agents):
                env = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                process = context.Process(
                    target=_child, args=(env, core, agent, options, folder), daemon=True, name=f"node {rank}"
                )
                process.start()
                processes.append(process)
            codes, first = _ended(processes, folder, timeout)
        finally:
            for process in processes:
                process.kill()  # a stopped process takes no other signal
                process.join()
        if any(codes):
            raise _failure(folder, codes, first)
        return [load(folder / f"run_{rank}.safetensors", classes=classes) for rank in range(core.agents)]


def _child(
    env: dict[str, str], core: MultiAgentEnv, agent: SupportsActing, options: Any, folder: Path
) -> None:
    os.environ.update(env)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # as torchrun does: the processes share the cores
    rank = env["RANK"]
    (folder / f"begun_{rank}").touch()
    try:
        save(folder / f"run_{rank}.safetensors", run_processes(core, agent, **options))
    except Exception as error:
        node = error.node if isinstance(error, NodeFailure) else int(rank)
        save(folder / f"error_{rank}.safetensors", {"text": str(error), "node": node})
        if isinstance(error, NodeFailure):
            sys.exit(1)
        raise


def _ended(processes: list[Any], folder: Path, timeout: float) -> tuple[list[int], int | None]:
    """The exit codes, and who was the first to fail.

    A failure leaves the others the time that they need to find out and to save; that of a node which had not
    yet begun leaves them none, since they could only wait for it in vain.
    """
    end = known = first = None
    while running := [process.sentinel for process in processes if process.exitcode is None]:
        connection.wait(running, timeout=0.2)
        ended = {rank: process.exitcode for rank, process in enumerate(processes) if process.exitcode}
        failed = [*ended.values()]
        if failed and end is None:
            # of two at once, one that was killed before one that has seen it
            first = min(ended, key=lambda rank: (ended[rank] > 0, rank))
            begun = (folder / f"begun_{first}").exists()
            end = time.monotonic() + (timeout + 2 * GRACE if begun else 0.0)
        if end is not None and any(code > 0 for code in failed):  # it knew, and so do the others
            known = known or time.monotonic() + 2 * GRACE
            end = min(end, known)
        if end is not None and time.monotonic() > end:
            break
    return [-9 if process.exitcode is None else process.exitcode for process in processes], first


def _failure(folder: Path, codes: list[int], first: int | None) -> NodeFailure:
    found = {rank: folder / f"error_{rank}.safetensors" for rank in range(len(codes))}
    said = {rank: load(path) for rank, path in found.items() if path.exists()}
    reports = {rank: each["text"] for rank, each in said.items()}
    ends = ", ".join(f"node {rank}: exit code {code}" for rank, code in enumerate(codes))
    named = [rank for rank, each in said.items() if each["node"] is not None]
    teller = min(named or said, default=-1)
    if first is None or codes[first] > 0 or named:
        if not said:
            return NodeFailure(f"node {first} failed ({ends})", first)
        return NodeFailure(f"{reports[teller]} ({ends})", said[teller]["node"], reports=reports)
    # nobody could say who it was; here it was seen
    words = [f"node {first} was killed (signal {-codes[first]})", *([reports[teller]] if said else [])]
    return NodeFailure(f"{'; '.join(words)} ({ends})", first, reports=reports)

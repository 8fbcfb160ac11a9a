"""The entrance: this process becomes one node of a decentralized run."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from optenvs.core.errors import check_oracles
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.nodes import Node
from optenvs.core.problems import as_problem
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.rollout import SupportsActing
from optenvs.core.struct import tensors

from .clock import Clockwork
from .record import ProcessRun, Record, Report, Seat, assemble
from .replay import replay
from .watch import NodeFailure, Over, Watch
from .wire import Place, Wire, meet, next_prefix, under

MODES = ("replay", "wall_clock")
_LEISURE, _HURRY = 30.0, 1.0
"""Seconds to wait for the threads of a run to end: of one that was completed, and of one that failed."""


def run_processes(
    core: MultiAgentEnv | Any,
    agent: SupportsActing,
    *,
    seed: int = 0,
    mode: str = "replay",
    gradients: int | None = None,
    lead: int | None = 8,
    timeout: float = 30.0,
    folder: str | Path | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> ProcessRun:
    """Be one node of a decentralized run: all processes of a launcher call this with the same arguments.

    Started by ``torchrun --nproc-per-node N script.py`` with N nodes, or by :func:`optenvs.spawn_processes`.
    A process keeps its own node's part of the data only, and computes gradients of its own function only.
    Tensors travel by gloo, through host memory where the problem lives on a GPU.

    Args:
        core: an asynchronous network, its id, or what a face made of it; without budget and
            tolerance: no node knows the common count.
        agent: one whose nodes can run one by one.
        seed: names the instance.
        mode: ``replay``: the seeded episode, each process its own events in order, with the result of
            :func:`optenvs.rollout` to rounding; ``wall_clock``: each node computes as fast as it can in one
            thread, and exchanges with free neighbours in another.
        gradients: by the clock: how many all nodes compute together, by default ``t_max`` each. Those under
            way at the end are completed.
        lead: by the clock: a node that is so many gradients ahead of the slowest waits for it; ``None`` for
            no limit. Without one, where the processes get unequal shares of the machine, the edges of the
            slow nodes fall below the rates that DADAO needs, and it diverges.
        timeout: seconds after which a node that does not answer ends the run. A single gradient must not
            take as long.
        folder: where each surviving node saves its last state when the run fails.
        on_report: called with each :class:`~optenvs.processes.record.Report` of this node: in a replay at the
            episode's reports, by the clock after every gradient.

    Raises:
        NodeFailure: a node was killed, hangs, failed, or was told to end. Raised on every surviving node,
            after its last state was saved. Where a node cannot even raise, because its own function does not
            return, its watch saves, prints the message and ends the process with exit code 1.
        RuntimeError: the process was not started by a launcher.
        ValueError: the number of processes is not that of the nodes, or an argument is out of range.

    With ``torchrun``, ``--max-restarts`` should stay 0: a node does not come back into a run. When the first
    process has failed, ``torchrun`` sends SIGTERM to the others (which save and raise all the same), and
    after 30 seconds SIGKILL to what is left: a process that is stopped (SIGSTOP) stays until then, the others
    do not. ``torchrun`` hosts the store that the nodes agree on; where another launcher leaves that to node
    0, the loss of the store is taken for the failure of node 0.
    """
    core = many_agents(core)
    _check(core, agent, mode, gradients, lead, timeout)
    place = Place.from_environment()
    if place.size != core.agents:
        raise ValueError(f"{core.name} has {core.agents} nodes, expected as many processes, got {place.size}")
    keys = keys_from_seed(seed, 1, core.torch_device)
    node = core.node(keys, place.rank)
    if mode == "wall_clock" and core.agents > 1 and not node.rates:
        raise ValueError("mode: wall_clock needs one graph whose edges have rates (clock='poisson')")
    seat = Seat(node, agent, on_report)
    target = math.ceil(
        (float(node.problem.t_max) if gradients is None else gradients / core.agents) * core.agents
    )
    with torch.no_grad():
        return _Session(core, keys, seat, place, timeout, folder).run(mode, target, lead)


def many_agents(core: Any) -> MultiAgentEnv:
    """The problem of many agents that ``core`` is, or stands for.

    Raises:
        TypeError: it is, or stands for, none.
    """
    core = as_problem(core)
    if not isinstance(core, MultiAgentEnv):
        raise TypeError(f"core: expected a problem of many agents, got {type(core).__name__}")
    return core


def _check(core: Any, agent: Any, mode: str, gradients: int | None, lead: int | None, timeout: float) -> None:
    if not isinstance(agent, SupportsActing) or getattr(agent, "together", False):
        raise TypeError(f"agent: expected one that runs node by node, got {type(agent).__name__}")
    check_oracles(type(agent).__name__, getattr(agent, "needs", ()), core.name, core.oracles)
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    for name in ("budget", "tolerance"):
        if getattr(core, name) is not None:
            raise ValueError(f"{name}: expected None, because no node knows what all have spent and reached")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout: expected a number of seconds > 0, got {timeout!r}")
    if lead is not None and (isinstance(lead, bool) or not lead >= 1):
        raise ValueError(f"lead: expected a number >= 1 or None, got {lead!r}")
    if gradients is not None and (mode != "wall_clock" or isinstance(gradients, bool) or not gradients >= 1):
        raise ValueError(f"gradients: expected a number >= 1, by the clock only, got {gradients!r}")


class _Session:
    """One run of one process, from the meeting of the nodes to their farewell."""

    def __init__(
        self, core: MultiAgentEnv, keys: Keys, seat: Seat, place: Place, timeout: float, folder: Any
    ) -> None:
        self._core, self._keys, self._seat, self._place = core, keys, seat, place
        self._timeout, self._folder = timeout, None if folder is None else Path(folder)
        self._prefix = next_prefix()
        self._wire: Wire | None = None

    def _store(self) -> Any:
        return under(self._prefix, self._place.store(self._timeout))

    def run(self, mode: str, target: int, lead: int | None) -> ProcessRun:
        store = self._store()
        place, host = self._place, None if self._place.hosted else 0
        watch = Watch(self._store(), place.rank, place.size, self._timeout, self._keep, host)
        self._watch = watch
        patience = _HURRY
        with watch.standing():
            try:
                watch.doing("work", "waiting for the others to join")
                made = self._play(store, watch, mode, target, lead)
                watch.done()
                patience = _LEISURE
            except Over:
                raise watch.failure() from None
            except NodeFailure as error:
                raise NodeFailure(f"{error}; node {self._place.rank} was {watch.words}", error.node) from None
            except BaseException as error:
                rank = self._place.rank
                watch.fail(rank, f"node {rank} failed: {type(error).__name__}: {error}")
                watch.keep()
                raise
            finally:
                if self._wire is not None:
                    self._wire.close(patience)
        self._leave(store)
        return made

    def _keep(self) -> Path | None:
        return self._seat.save(self._folder, self._watch.words)

    def _play(self, store: Any, watch: Watch, mode: str, target: int, lead: int | None) -> ProcessRun:
        seat, node = self._seat, self._seat.node
        events = node.events()
        card = json.dumps({"episode": _fingerprint(node, seat.agent, mode, target), "rates": node.rates})
        cards = [json.loads(each) for each in meet(store, self._place, self._timeout, card)]
        strange = [i for i, each in enumerate(cards) if each["episode"] != cards[0]["episode"]]
        if strange:
            raise NodeFailure(f"node {strange[0]} plays another run than node 0: other arguments", strange[0])
        watch.begin()
        self._wire = wire = Wire(store, self._place, watch, self._timeout)
        if mode == "replay":
            replay(seat, wire, watch, events)
        else:
            rates = [{int(peer): rate for peer, rate in each["rates"].items()} for each in cards]
            Clockwork(seat, wire, watch, rates, target, lead).run()
        watch.doing("waiting", "waiting for the mean of all iterates")
        assert seat.iterate is not None
        own = seat.iterate.flatten()
        mean = wire.mean(own)
        record = self._record(wire, mode)
        return ProcessRun(
            rank=node.index,
            iterate=own,
            mean=mean,
            gradients=seat.gradients,
            exchanges=seat.exchanges,
            agent_state=seat.state,
            record=record,
        )

    def _record(self, wire: Wire, mode: str) -> Record | None:
        rows = wire.gather(torch.stack(self._seat.rows))
        if rows is None:
            return None
        self._watch.doing("work", "measuring the run")
        return assemble(self._core, self._keys, self._seat.node.bills, rows, mode == "wall_clock")

    def _leave(self, store: Any) -> None:
        """Where node 0 hosts the store, it goes last."""
        place = self._place
        store.set(f"left/{place.rank}", "")
        end = time.monotonic() + self._timeout
        names = [f"left/{other}" for other in range(place.size)]
        while place.rank == 0 and not place.hosted and not store.check(names) and time.monotonic() < end:
            time.sleep(0.02)


def _fingerprint(node: Node, agent: Any, mode: str, target: int) -> str:
    """The same for all nodes of one run, and for no two runs that differ."""
    known = {name: leaf.tolist() for name, leaf in tensors(node.problem).items() if "local" not in name}
    shape = (tuple(node.start.shape), str(node.start.dtype))
    facts = (mode, target, type(agent).__name__, int(node.key), shape, known)
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()

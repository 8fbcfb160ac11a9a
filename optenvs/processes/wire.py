"""How the nodes meet and talk: gloo between all of them, a thread that listens for each kind of message.

Gloo's own time-outs are no help here: a wait that times out closes all connections of the process, so that
its neighbours see a node die that is well. Here nothing waits in gloo but threads that only listen; whoever
needs a message waits for the thread's queue, under the eyes of the :class:`~.watch.Watch`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from queue import Queue
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .watch import NodeFailure, Over, Watch

_FOREVER = timedelta(days=10_000)
MESSAGE, CONTROL, REPLY, SIZE, ROWS, _NEVER = range(6)
_hosted: dict[tuple[str, int], Any] = {}  # a store lives as long as the process that hosts it
_meetings = 0


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others, as the launcher says in the environment."""

    rank: int
    size: int
    address: str
    port: int
    hosted: bool
    """Whether the launcher hosts the store; otherwise node 0 does."""

    @classmethod
    def from_environment(cls) -> Place:
        """Read what ``torchrun`` sets.

        Raises:
            RuntimeError: nothing is set.
        """
        env = os.environ
        missing = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if n not in env]
        if missing:
            raise RuntimeError(
                f"run_processes: {', '.join(missing)} not set; start the script with "
                "torchrun --nproc-per-node NODES script.py, or use optenvs.spawn_processes"
            )
        return cls(
            rank=int(env["RANK"]),
            size=int(env["WORLD_SIZE"]),
            address=env["MASTER_ADDR"],
            port=int(env["MASTER_PORT"]),
            hosted=env.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )

    def store(self, timeout: float) -> Any:
        """A new client of the common store."""
        host = (self.address, self.port)
        if not self.hosted and self.rank == 0 and host not in _hosted:
            _hosted[host] = open_store(*host, timeout, hosts=True)
        return open_store(*host, timeout)


def open_store(address: str, port: int, timeout: float, hosts: bool = False) -> Any:
    """A client of the store at this address, or, with port 0 for a free one, the store itself."""
    make = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
    return make(address, port, is_master=hosts, wait_for_workers=False, timeout=timedelta(seconds=timeout))


def under(prefix: str, store: Any) -> Any:
    """The store, with keys of its own."""
    return dist.PrefixStore(prefix, store)  # pyright: ignore[reportPrivateImportUsage]


def next_prefix() -> str:
    """The keys of the coming run: all processes count their runs alike."""
    global _meetings
    _meetings += 1
    return f"optenvs/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{_meetings}"


def meet(store: Any, place: Place, timeout: float, card: str) -> list[str]:
    """Wait until all nodes are there; the cards that they show, in order.

    Raises:
        NodeFailure: some are missing after the time-out; the message names them.
    """
    store.set(f"here/{place.rank}", card)
    names = [f"here/{other}" for other in range(place.size)]
    end = time.monotonic() + timeout
    missing = list(range(place.size))
    while missing:
        missing = [other for other in missing if not store.check([names[other]])]
        if missing and time.monotonic() > end:
            who = ", ".join(map(str, missing))
            raise NodeFailure(
                f"node {who} did not join within {timeout:g} s", missing[0] if len(missing) == 1 else None
            )
        if missing:
            time.sleep(0.02)
    return [value.decode() for value in store.multi_get(names)]


class Wire:
    """The connections of one node to all others.

    Args:
        store: what the nodes find each other by.
        place: which node, of how many.
        watch: is told of every connection that closes.
        timeout: seconds to connect.
    """

    def __init__(self, store: Any, place: Place, watch: Watch, timeout: float) -> None:
        if place.address in ("127.0.0.1", "localhost") and os.path.isdir("/sys/class/net/lo"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self.rank, self.size = place.rank, place.size
        self._watch, self._closing = watch, False
        self._threads: list[threading.Thread] = []
        # a buffer must live until it is sent; when the third goes, the first has been answered
        self._sent: dict[tuple[int, int], deque[Any]] = {}
        connected: Queue[Any] = Queue()
        watch.doing("work", "connecting to the others")
        self._background(lambda: connected.put(self._connect(store, timeout)), "connect")
        self._group: Any = watch.wait(connected)

    def _connect(self, store: Any, timeout: float) -> Any:
        try:
            patience = timedelta(seconds=timeout)
            return dist.ProcessGroupGloo(under("gloo", store), self.rank, self.size, patience)
        except RuntimeError as error:
            self._watch.fail(None, f"node {self.rank} cannot connect ({str(error).splitlines()[0]})")
            raise Over from error

    def _background(self, task: Any, name: str) -> None:
        def run() -> None:
            with contextlib.suppress(Over):
                task()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def listen(self, peer: int, tag: int, like: Tensor, into: Queue[Any] | None = None) -> Queue[Any]:
        """A queue of all that ``peer`` sends under ``tag``, in tensors like this one.

        A queue ``into`` that several share gets pairs of the sender and what it sent.
        """
        heard: Queue[Any] = Queue() if into is None else into

        def loop() -> None:
            while not self._closing:
                buffer = torch.empty_like(like)
                try:
                    self._group.recv([buffer], peer, tag).wait(_FOREVER)
                except RuntimeError:
                    if not self._closing:
                        self._watch.lost(peer)
                    return
                heard.put(buffer if into is None else (peer, buffer))

        self._background(loop, f"listen to {peer}")
        return heard

    def send(self, peer: int, tag: int, words: Tensor) -> None:
        """Send without waiting."""
        words = words.detach().cpu().contiguous()
        try:
            work = self._group.send([words], peer, tag)
        except RuntimeError as error:
            self._watch.lost(peer)
            self._watch.check()
            raise NodeFailure(f"node {peer} has left before it got its message", peer) from error
        self._sent.setdefault((peer, tag), deque(maxlen=2)).append((work, words))

    def receive(self, peer: int, tag: int, like: Tensor) -> Tensor:
        """One tensor of ``peer``, where no thread listens."""
        heard: Queue[Tensor] = Queue()

        def once() -> None:
            buffer = torch.empty_like(like)
            try:
                self._group.recv([buffer], peer, tag).wait(_FOREVER)
                heard.put(buffer)
            except RuntimeError:
                if not self._closing:
                    self._watch.lost(peer)

        self._background(once, f"receive from {peer}")
        return self._watch.wait(heard)

    def mean(self, own: Tensor) -> Tensor:
        """The mean over all nodes."""
        total, ready = own.detach().cpu().clone(), Queue()

        def add() -> None:
            try:
                self._group.allreduce([total]).wait(_FOREVER)
                ready.put(True)
            except RuntimeError as error:
                if not self._closing:
                    time.sleep(self._watch.timeout / 10)  # those who know who it was speak first
                    reason = str(error).splitlines()[0]
                    self._watch.fail(None, f"the mean over all nodes failed ({reason})")

        self._background(add, "mean")
        self._watch.wait(ready)
        return (total / self.size).to(own.device)

    def gather(self, own: Tensor) -> list[Tensor] | None:
        """The float64 matrices ``(rows, width)`` of all nodes, at node 0."""
        if self.rank:
            self.send(0, SIZE, torch.tensor(own.shape))
            self.send(0, ROWS, own)
            return None
        parts = [own]
        for other in range(1, self.size):
            self._watch.doing("waiting", f"waiting for the record of node {other}")
            shape = self.receive(other, SIZE, torch.zeros(2, dtype=torch.int64))
            parts.append(self.receive(other, ROWS, own.new_empty(shape.tolist(), device="cpu")))
        return parts

    def close(self, patience: float) -> None:
        """Close all connections, and wait up to ``patience`` seconds for the threads that listen to end.

        A thread that outlives the interpreter, and then comes back from a wait in C++, aborts the process.
        """
        self._closing = True
        group = getattr(self, "_group", None)
        if group is not None and self.size > 1:
            # the one way to end the waits of other threads: a wait that times out closes all connections
            with contextlib.suppress(RuntimeError):
                group.recv([torch.zeros(1)], (self.rank + 1) % self.size, _NEVER).wait(
                    timedelta(milliseconds=1)
                )
        for thread in self._threads:
            thread.join(patience)
        # gloo's own threads end with the group: now, and not in the midst of the interpreter's end
        self._sent.clear()
        self._group = group = None

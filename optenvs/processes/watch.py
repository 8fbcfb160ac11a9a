"""Who is still there: every node says what it does, watches the others, and agrees with them on a failure.

A node posts a few words on a store that no node hosts (the launcher does), several times within the time-out.
Those who read them conclude that a node has failed when

* it has not posted for the time-out (stopped, or its machine is gone),
* it has been computing one gradient for the time-out (it hangs in its own function),
* its connection has closed before it was done (killed), or it says so itself (an exception, a signal),
* all nodes have been waiting for each other for the time-out.

The first to conclude writes the verdict, and all others take it over: one culprit, not a row of victims.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

GRACE = 2.0
"""Seconds that a node which must end has for it, before its watch ends the process; and that a node which
was sent SIGTERM waits for the verdict that explains it."""
_VERDICT, _NONE = "verdict", "-"
_SLICE = 0.05


class NodeFailure(RuntimeError):
    """The run is over because of one node. The message names it, and says what this node was waiting for.

    Attributes:
        node: the node that failed; ``None`` where it is no single one.
        saved: the file with this node's last state, or ``None``.
        reports: in the process that started all: the message of each node that could still say something.
    """

    def __init__(
        self,
        message: str,
        node: int | None = None,
        saved: Path | None = None,
        reports: dict[int, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.node, self.saved, self.reports = node, saved, reports or {}


class Over(Exception):
    """Raised in the threads of a node when there is a verdict; it never leaves this package."""


class Watch:
    """The watch of one node.

    Args:
        store: a client of its own on the common store.
        rank, size: which node, of how many.
        timeout: seconds.
        keep: saves this node's last state, and says where; it must not wait for another thread.
        host: the node that hosts the store, or ``None`` where the launcher does.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        timeout: float,
        keep: Callable[[], Path | None],
        host: int | None = None,
    ) -> None:
        self.rank, self.size, self.timeout = rank, size, timeout
        self._store, self._keep, self._host = store, keep, host
        self._pause = min(max(timeout / 20, 0.02), 1.0)
        self._tasks: dict[str, tuple[str, str, float]] = {}
        self._posts: list[str] = [""] * size
        self._heard = [0.0] * size
        self._looked, self._beat, self._done = 0.0, 0, False
        self._verdict: dict[str, Any] | None = None
        self._decided = self._terminated = 0.0
        self._left, self._closed = threading.Event(), threading.Event()
        # two, because an answer of the store may never come, whatever time-out it was given
        self._talks = threading.Thread(target=self._talk, name="watch", daemon=True)
        self._guards = threading.Thread(target=self._guard, name="guard", daemon=True)
        self._handler: Any = None

    # What this node says -----------------------------------------------------------------------

    def post(self) -> None:
        """Say what this node does."""
        self._beat += 1
        now = time.monotonic()
        tasks = [(kind, text, now - since) for kind, text, since in list(self._tasks.values())]
        words = {"beat": self._beat, "tasks": tasks, "done": self._done}
        self._store.set(f"post/{self.rank}", json.dumps(words))

    def doing(self, kind: str, text: str, thread: str = "") -> None:
        """From now on this thread is in a ``gradient``, ``waiting``, or at ``work``; ``text``: of what."""
        self._tasks[thread] = (kind, text, time.monotonic())

    @property
    def words(self) -> str:
        """What this node is doing."""
        return " and ".join(text for _, text, _ in list(self._tasks.values())) or "starting"

    def done(self) -> None:
        """Say that this node needs nobody any more, and wait until all others say so."""
        self._done = True
        self._tasks.clear()
        self.doing("done", "waiting for the others to finish")
        self.post()
        others = [other for other in range(self.size) if other != self.rank]
        while not all(self._is_done(other) for other in others):
            self.check()
            time.sleep(_SLICE)

    def _is_done(self, other: int) -> bool:
        return bool(self._posts[other]) and json.loads(self._posts[other])["done"]

    # What it waits for -------------------------------------------------------------------------

    def check(self) -> None:
        """Raise :class:`Over` if the run has failed."""
        if self._verdict is not None:
            raise Over

    def wait(self, queue: Queue[Any]) -> Any:
        """The next entry; :class:`Over` if the run fails before one comes."""
        while True:
            self.check()
            with contextlib.suppress(Empty):
                return queue.get(timeout=_SLICE)

    # How it fails ------------------------------------------------------------------------------

    def fail(self, node: int | None, text: str) -> None:
        """Conclude that ``node`` has failed, unless there is a verdict already."""
        if self._verdict is not None:
            return
        mine = json.dumps({"node": node, "text": text})
        try:
            found = self._store.compare_set(_VERDICT, _NONE, mine).decode()
        except RuntimeError:  # the store is gone: everyone judges alone
            found = mine
        self._decide(found)

    def lost(self, other: int) -> None:
        """The connection to a node has closed."""
        if self._closed.is_set() or self._verdict is not None:
            return
        with contextlib.suppress(RuntimeError):
            self._posts[other] = self._store.get(f"post/{other}").decode()
        if not self._is_done(other):
            self.fail(
                other, f"node {other} is gone (its connection to node {self.rank} closed){self._last(other)}"
            )

    def failure(self) -> NodeFailure:
        """Save this node's last state; the error to raise."""
        self._left.set()
        verdict = self._verdict or {"node": None, "text": "the run was ended"}
        was = f"; node {self.rank} was {self.words}" if verdict["node"] != self.rank else ""
        saved = self.keep()
        where = (
            "nothing was saved (no folder was given)" if saved is None else f"its last state is in {saved}"
        )
        return NodeFailure(f"{verdict['text']}{was}; {where}", verdict["node"], saved)

    def keep(self) -> Path | None:
        """Save this node's last state."""
        self._left.set()
        return self._keep()

    def _decide(self, verdict: str) -> None:
        self._decided = time.monotonic()
        self._verdict = json.loads(verdict)

    def _last(self, other: int) -> str:
        tasks = json.loads(self._posts[other])["tasks"] if self._posts[other] else []
        return f"; when last heard of it was {' and '.join(t for _, t, _ in tasks)}" if tasks else ""

    # The thread --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Watch inside of the block. SIGTERM then ends this node as a failure does, with its state saved."""
        self._store.compare_set(_VERDICT, "", _NONE)
        self.post()
        self._looked = time.monotonic() + self.timeout  # the others have that long to join
        self._guards.start()
        main = threading.current_thread() is threading.main_thread()
        if main:
            self._handler = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            yield
        finally:
            self._closed.set()
            for thread in (self._talks, self._guards):
                if thread.ident is not None:  # where all is well they end at once, if the machine lets them
                    thread.join(min(self.timeout, 1.0) if self._verdict is not None else self.timeout)
            if main and self._verdict is None:
                self._restore()
            elif main:  # the launcher's SIGTERM is about to come: the error must still get out
                signal.signal(signal.SIGTERM, lambda number, frame: self._restore())

    def _restore(self) -> None:
        handler = signal.SIG_DFL if self._handler is None else self._handler
        signal.signal(signal.SIGTERM, handler)

    def begin(self) -> None:
        """Watch the others, all of which have posted by now."""
        self._heard = [time.monotonic()] * self.size
        self._looked = time.monotonic()
        self._talks.start()

    def _on_sigterm(self, number: int, frame: Any) -> None:
        self._terminated = self._terminated or time.monotonic()

    def _talk(self) -> None:
        while not self._closed.wait(self._pause) and self._verdict is None:
            try:
                self._look()
            except RuntimeError as error:
                self._lost_store(f"is gone ({str(error).splitlines()[0]})")

    def _guard(self) -> None:
        before = time.monotonic()
        while not self._closed.wait(self._pause):
            now = time.monotonic()
            if now - before > self.timeout / 2:  # this process has slept
                self._looked = max(self._looked, now)
            before = now
            if now - self._looked > self.timeout + self._pause:
                self._lost_store(f"has not answered for {now - self._looked:.1f} s")
            if self._verdict is not None and not self._left.is_set():
                self._end_process()

    def _lost_store(self, how: str) -> None:
        """Without the store there is no common verdict; each node has its own."""
        if self._verdict is None:
            of = "the launcher's" if self._host is None else f"node {self._host}'s"
            self._decide(json.dumps({"node": self._host, "text": f"{of} store {how}"}))

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked > self.timeout / 2:  # this process has slept, not the others
            self._heard = [now] * self.size
        self._looked = now
        self.post()
        names = [f"post/{other}" for other in range(self.size)]
        *posts, verdict = (value.decode() for value in self._store.multi_get([*names, _VERDICT]))
        for other, words in enumerate(posts):
            if words != self._posts[other]:
                self._posts[other], self._heard[other] = words, now
        if verdict != _NONE:
            self._decide(verdict)
            return
        self._judge(now)
        if self._terminated and now - self._terminated > GRACE:
            self.fail(self.rank, f"node {self.rank} was told to end (SIGTERM) while it was {self.words}")

    def _judge(self, now: float) -> None:
        everyone_waits = []
        for other in range(self.size):
            words = json.loads(self._posts[other])
            if words["done"]:
                continue
            silent = now - self._heard[other]
            if silent > self.timeout:
                self.fail(other, f"node {other} has not been heard of for {silent:.1f} s{self._last(other)}")
            for kind, text, since in words["tasks"]:
                if kind == "gradient" and since > self.timeout:
                    self.fail(other, f"node {other} hangs: it has been {text} for {since:.1f} s")
            waits = all(kind == "waiting" and since > self.timeout for kind, _, since in words["tasks"])
            everyone_waits.append(waits and bool(words["tasks"]))
        if everyone_waits and all(everyone_waits):
            each = ", ".join(
                f"node {i}{self._last(i).removeprefix('; when last heard of it')}" for i in range(self.size)
            )
            self.fail(None, f"all nodes have been waiting for {self.timeout:g} s: {each}")

    def _end_process(self) -> None:
        """The last resort: where the node itself does not come back, from its own function for example."""
        if time.monotonic() - self._decided < GRACE:
            return
        print(f"NodeFailure: {self.failure()}", file=sys.stderr, flush=True)
        os._exit(1)

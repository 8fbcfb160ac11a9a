"""Processes that work off a list of jobs: one that dies costs its own job only, and none outlives this one.

Loky starts them (they share nothing with this process, and a user's script needs no guard), but not loky's
executor hands out the jobs: its queues have locks, and a process that is killed while it holds one lets all
others wait for ever. Here each worker has a line of its own. What it is told is one job at a time, so that it
is known what was lost with it; and where the line closes, because this process has ended in whatever way, it
ends, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from queue import SimpleQueue
from typing import Any

from joblib import wrap_non_picklable_objects
from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend import resource_tracker as loky_tracker

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_PATIENCE = 2.0  # seconds that a worker which has nothing more to do has to end by itself
_living: set[_Worker] = set()
_birth = threading.Lock()


@dataclass(frozen=True)
class Lost:
    """A job without a result, and why: its worker has died, or could not be given the job."""

    reason: str


class Pool:
    """Up to ``size`` workers, started as they are needed and kept between the lists of jobs.

    Use it in a ``with`` block: at its end the workers are gone, whatever ends it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[_Worker] = []
        self._mine: list[_Worker] = []

    def results(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Pairs of a job and what ``function(job)`` returned, or :class:`Lost`, as they are finished.

        Raises:
            OSError: ``function`` did. RuntimeError: it raised something else, which the message says.
        """
        waiting, busy = deque(jobs), {}
        while waiting or busy:
            while waiting and len(busy) < self.size:
                job = waiting.popleft()
                worker = self._given(function, job)
                if isinstance(worker, Lost):
                    yield job, worker
                else:
                    busy[worker.line] = worker, job
            for line in connection.wait([*busy]):
                worker, job = busy.pop(line)
                answer = worker.answer()
                if isinstance(answer, Lost):
                    yield job, answer
                    continue
                self._idle.append(worker)
                if answer[0] == "raised":
                    raise answer[1]
                yield job, answer[1]

    def _given(self, function: Callable[[Any], Any], job: Any) -> _Worker | Lost:
        """A worker that has the job; one that has died while it had nothing to do is replaced."""
        task = wrap_non_picklable_objects((function, job), keep_wrapper=False)
        for worker in [*self._idle[-1:], None]:
            fresh = worker is None
            if worker is not None:
                self._idle.remove(worker)
            worker = worker or self._started()
            try:
                worker.line.send(task)
            except OSError:
                lost = Lost(worker.end())
                if fresh:
                    return lost
            except Exception as error:  # noqa: BLE001, whatever pickling a user's object raises
                self._idle.append(worker)
                return Lost(f"cannot be given to a process: {type(error).__name__}: {error}")
            else:
                return worker
        raise AssertionError("unreachable: the last one is fresh")

    def _started(self) -> _Worker:
        self._mine.append(_Worker())
        return self._mine[-1]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for worker in self._idle:
                worker.dismiss()
        for worker in self._mine:
            worker.kill()
        for worker in self._mine:
            worker.end()


class _Worker:
    """A process and the line to it."""

    def __init__(self) -> None:
        context: Any = get_context("loky")
        self.line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), env=_ONE_THREAD, daemon=True)
        with _birth, _deaf(), theirs:
            self._process.start()
            _living.add(self)

    def answer(self) -> Any:
        """What it says; :class:`Lost` if it has died."""
        try:
            return self.line.recv()
        except (EOFError, OSError):
            return Lost(self.end())

    def dismiss(self) -> None:
        """Let it end by itself, as a program does."""
        with contextlib.suppress(OSError):
            self.line.send(None)
        self._process.join(_PATIENCE)

    def end(self) -> str:
        """Take leave of it, and of what it has started; how it ended."""
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        self.kill()
        self._process.join(_PATIENCE)
        self.line.close()
        _living.discard(self)
        if code is None or code >= 0:
            return f"its process ended ({'it closed its line' if code is None else f'exit code {code}'})"
        memory = "; was there enough memory?" if -code == getattr(signal, "SIGKILL", None) else ""
        return f"its process was killed ({signal.Signals(-code).name}{memory})"

    def kill(self) -> None:
        """Kill it, and what it has started."""
        if self._process.exitcode is not None:
            return
        if os.name == "nt":
            self._process.terminate()
            return
        for kill in (os.killpg, os.kill):  # by the second where it is too young to lead a group
            with contextlib.suppress(OSError):
                kill(self._process.pid, signal.SIGKILL)


def kill_workers() -> None:
    """Kill all workers of this process, which is about to end; safe in any thread and at any moment."""
    _birth.acquire(timeout=_PATIENCE)  # kept: no other is born, and one that is just being born is among them
    for worker in [*_living]:
        worker.kill()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process that is started in this block does not hear Ctrl+C before it is ready for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # the first process of a kind starts its tracker, too, which then would let this one hear again
    resource_tracker.ensure_running()
    loky_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(line: connection.Connection) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that has started this one
    if os.name != "nt":
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    told: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(line, told), daemon=True).start()
    while (task := told.get()) is not None:
        try:
            if isinstance(task, Exception):
                raise task
            function, job = task
            answer = ("done", function(job))
        except OSError as error:
            answer = ("raised", OSError(error.errno, error.strerror or str(error), error.filename))
        except Exception as error:  # noqa: BLE001, whatever it is, the other process must hear of it
            answer = ("raised", RuntimeError(f"{type(error).__name__}: {error}"))
        line.send(answer)


def _listen(line: connection.Connection, told: SimpleQueue[Any]) -> None:
    """Pass on what comes, while the other thread works; nobody needs a worker whose line is closed."""
    while True:
        try:
            told.put(line.recv())
        except (EOFError, OSError):
            os._exit(1)
        except Exception as error:  # noqa: BLE001, a job that cannot be built here
            told.put(error)

"""A solver that calls back, in a thread of its own, as one that is asked and told.

Whoever asks waits until the solver wants to know something, and the solver waits until it is told: one of the
two runs at a time. A thread ends with its :class:`Conversation`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from optenvs.core.errors import BudgetSpent
from optenvs.solvers.form import Form
from optenvs.solvers.functions import TOGETHER, AskedFunctions
from optenvs.solvers.solve import Solution, solve

Answers = dict[str, np.ndarray]
_RUNNING: dict[threading.Thread, _Channel] = {}
_SECONDS = 10.0
"""How long the end of the process waits for a solver to see that nobody answers any more."""


class Question(NamedTuple):
    """What a solver wants to know: some kinds, at some places."""

    kinds: frozenset[str]
    places: dict[str, np.ndarray]


class _Closed(BaseException):
    """Nobody will answer any more. No solver's handler of exceptions is to catch it."""


class _Channel:
    """The two ways between a solver's thread and whoever asks.

    Attributes:
        lock: what the solver holds while it runs, and must not hold while it waits: before scipy 1.18 COBYQA
            has one lock for all, and another row's would wait for ever.
    """

    def __init__(self) -> None:
        self.questions: SimpleQueue[Any] = SimpleQueue()
        self.answers: SimpleQueue[Answers | None] = SimpleQueue()
        self.lock: Any = None

    def ask(self, question: Question) -> Answers:
        """In the solver's thread: the answers."""
        self.questions.put(question)
        with _without(self.lock):
            answers = self.answers.get()
        if answers is None:
            raise _Closed
        return answers


@contextlib.contextmanager
def _without(lock: Any) -> Iterator[None]:
    if lock is None:
        yield
        return
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def _lock_of(method: str) -> Any:
    """The lock that a method of scipy's holds, or ``None``."""
    if method.lower() != "cobyqa":
        return None
    return getattr(importlib.import_module("scipy.optimize._cobyqa_py"), "COBYQA_LOCK", None)


class HostFunctions(AskedFunctions):
    """The functions of one row, whose questions go to the agent."""

    def __init__(self, owner: str, form: Form, known: Mapping[str, np.ndarray]) -> None:
        super().__init__(owner, form, known, TOGETHER)
        self.channel = _Channel()

    def _query(self, kinds: frozenset[str], places: dict[str, np.ndarray]) -> Answers:
        return self.channel.ask(Question(kinds, {name: place.copy() for name, place in places.items()}))


class Conversation:
    """One run of a solver with ``ask`` and ``tell``.

    Args:
        functions: of the problem.
        settings: the keywords of :func:`optenvs.solvers.solve.solve`.
    """

    def __init__(self, functions: HostFunctions, settings: dict[str, Any]) -> None:
        self._channel = functions.channel
        # a thread must not know this object, which would then never end
        self._thread = threading.Thread(target=_run, args=(functions, settings), daemon=True)
        self.close = weakref.finalize(self, self._channel.answers.put, None)
        self.close.atexit = False  # see _end_all
        self.solution: Solution | None = None
        self.finished = False

    def ask(self) -> Question | None:
        """What the solver wants to know; ``None`` when it has finished, with :attr:`solution`, if it has one.

        Raises:
            Exception: whatever ends the solver but the budget.
        """
        if self.finished:
            return None
        if not self._thread.ident:
            _RUNNING[self._thread] = self._channel
            self._thread.start()
        found = self._channel.questions.get()
        if isinstance(found, Question):
            return found
        self.finished = True
        if isinstance(found, BaseException):
            raise found
        self.solution = found
        return None

    def tell(self, answers: Answers) -> None:
        """The answers to the question; those that the budget did not pay are not there."""
        self._channel.answers.put(answers)


def _run(functions: HostFunctions, settings: dict[str, Any]) -> None:
    """Solve, and say what was found; the pair of point and multipliers is asked, so that it is judged."""
    channel, found = functions.channel, None
    try:
        # numbers overflow at a trial point, and that is no news; the setting is the thread's own
        with np.errstate(all="ignore"):
            channel.lock = _lock_of(settings["method"])
            found = solve(functions, **settings)
            channel.lock = None
            functions.conclude(found.x, found.multipliers)
        channel.questions.put(found)
    except BudgetSpent:
        channel.questions.put(found)
    except _Closed:
        pass
    except BaseException as error:  # noqa: BLE001 - raised on the other side
        channel.questions.put(error)
    finally:
        _RUNNING.pop(threading.current_thread(), None)


@atexit.register
def _end_all() -> None:
    """End all threads: one in compiled code when Python ends would end the process by force."""
    for thread, channel in list(_RUNNING.items()):
        channel.answers.put(None)
        thread.join(_SECONDS)

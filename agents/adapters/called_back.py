"""Solvers that call the functions which they minimise, as agents: one solver a row, each in a thread.

A solver calls the functions of :class:`optenvs.solvers.functions.Functions`, and each call is a question.
Value and constraints at one point are one query, as are gradient and Jacobian, and a query wants nothing that
is known there. The rows' questions are put together into the batch's query: a run takes as many steps as its
longest row, and each row pays for its own questions alone.

What :mod:`agents.adapters.ask_tell` says of objects with ``ask`` and ``tell`` holds for it: the memory keeps
the answers, from which a solver is rebuilt by replay where a run is resumed or branched. A solver draws no
random numbers.

The rows of a batch begin together: a policy (``agents.bind``) on a vector environment that begins episodes
of single rows anew cannot be one of these agents.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.given import is_number, numbers
from optenvs.core.offer import ANSWERED
from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct
from optenvs.solvers.form import Form, known_of, row_of
from optenvs.solvers.scipy_forms import Method, check
from optenvs.solvers.solve import SPENT

from ..core import Agent, Observation, require
from ._conversation import Conversation, HostFunctions, Question
from ._tape import Tape

_RUNNING = -9


@struct
class CalledBackState:
    """The past of ``B`` solvers, from which they can be rebuilt.

    Attributes:
        known: start, box and multipliers of each instance, ``(B, n)`` or ``(B, m)``.
        begin: ``start`` and ``multipliers`` with which the solver begins.
        asked: the last question's places, by name.
        told: the answers so far, one after the other, ``(B, numbers)``.
        layout: the kinds of which an answer has columns, ``(B, answers)``: bit i is the i-th kind.
        paid: the kinds that the row was told, in the same form.
        count: answers so far, ``(B,)``.
        k: the number of the query that was answered last, ``(B, 1)``; where it stays, the episode is over.
        found: the point that the solver has found, ``(B, n)``: the last one asked while it runs.
        multipliers: those that it has found, ``(B, m)``, zeros where it has none.
        status: the solver's own number, ``(B,)``; -9 while it runs, and where the environment has ended it;
            -3 where the budget does not pay what it asks. Of success the environment alone has to say.
        finished: ``(B,)``.
        form: how an instance is asked.
    """

    known: dict[str, Tensor]
    begin: dict[str, Tensor]
    asked: dict[str, Tensor]
    told: Float[Tensor, "B numbers"]
    layout: Int64[Tensor, "B answers"]
    paid: Int64[Tensor, "B answers"]
    count: Int64[Tensor, "B"]
    k: Float[Tensor, "B 1"]
    found: Float[Tensor, "B n"]
    multipliers: Float[Tensor, "B m"]
    status: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    form: Form = static()

    second_axis: ClassVar[dict[str, str]] = dict.fromkeys(  # a conversation is whole, or cannot be rebuilt
        ("known", "begin", "asked", "told", "layout", "paid", "k", "found", "multipliers"), "whole"
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class CalledBackAgent(Agent):
    """What the agents of such solvers share.

    After ``run = optenvs.rollout(env, agent)`` the solver's answer is ``run.agent_state.found``, with
    ``run.agent_state.multipliers`` and its ``status``.

    The environment judges every query, and its merit says what is solved: what a solver calls a success is in
    no metric. What a solver has found is asked once more with its multipliers, for a value, where that pair
    was not asked. Its row has then finished; so has one whose budget does not pay what it asks.

    Args:
        tol: the solver's tolerance; ``None`` for its own default.
        hessian: where curvature comes from: ``auto``, what is answered; ``exact``, Hessians; ``products`` of
            them with vectors; ``none``, gradients alone.
        bounded: whether points stay in the box that the problem names, where the method can; a start outside
            is brought in, and a coordinate whose bounds are equal stays. A method that knows no bounds does
            without a landscape's box, and refuses a program's.
        options: the solver's own, by their names.
        start: where to begin in place of the environment's point, ``(n,)`` or one a row.
        multipliers: to begin with in place of the problem's, ``(m,)`` or one a row: with ``start`` a warm
            start from the ``found`` and ``multipliers`` of another run's memory.
    """

    tol: float | None = None
    hessian: str = "auto"
    bounded: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    start: Any = None
    multipliers: Any = None
    _live: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    on_host = True

    @property
    @abc.abstractmethod
    def spec(self) -> Method:
        """What the method can do."""

    def __post_init__(self) -> None:
        require(
            self, "tol", self.tol is None or (is_number(self.tol) and self.tol > 0), "a number > 0 or None"
        )
        taken = ("auto", *self.spec.hessian)
        require(self, "hessian", self.hessian in taken, f"one of {', '.join(taken)}")
        require(self, "options", isinstance(self.options, Mapping), "a dict of the solver's options")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> CalledBackState:
        form = Form.of(type(self).__name__, problem, observation)
        point, batch = observation[form.place], len(keys)
        known = known_of(form, problem, point)
        check(self._functions(form, known, 0), self.spec, self.bounded, self.hessian)
        begin = {
            "start": self._given("start", point),
            "multipliers": self._given("multipliers", known["multipliers"]),
        }
        nothing = keys.new_zeros(batch, 0)
        shapes = {name: point.new_zeros(batch, *shape) for name, shape, _ in form.offer.places}
        return CalledBackState(
            known=known,
            begin=begin,
            asked=shapes | {form.place: point},
            told=point.new_zeros(batch, 0),
            layout=nothing,
            paid=nothing,
            count=torch.zeros_like(keys),
            k=observation["k"] - 1,
            found=point,
            multipliers=begin["multipliers"],
            status=torch.full_like(keys, _RUNNING),
            finished=torch.zeros_like(keys, dtype=torch.bool),
            form=form,
        )

    def _given(self, name: str, usual: Tensor) -> Tensor:
        """The numbers of a field, one row an instance, or the usual ones."""
        value = getattr(self, name)
        if value is None:
            return usual
        try:
            found = torch.from_numpy(numbers(value)).to(usual)
        except (TypeError, ValueError):
            found = usual.new_full((), torch.nan)  # bools, words, or rows of several lengths
        if found.shape not in (usual.shape, usual.shape[1:]) or not bool(found.isfinite().all()):
            raise ValueError(
                f"{type(self).__name__}: {name}: expected finite numbers, {tuple(usual.shape[1:])} or "
                f"one row an instance, got {value!r}"
            )
        return found.expand_as(usual)

    def act(self, state: CalledBackState, observation: Observation) -> tuple[Action, CalledBackState]:
        form, resting = state.form, state.finished | (observation["k"] <= state.k).squeeze(-1)
        runs, tapes = self._resumed(state, observation, resting)
        shown = _shown(form, observation) & ~resting.unsqueeze(-1)
        self._note(form, observation, shown, tapes)
        questions: list[Question | None] = []
        for row, (answers, over) in enumerate(
            zip(_answers(form, observation, shown), resting.tolist(), strict=True)
        ):
            run = runs[row]
            if over:
                runs[row] = None  # its thread ends
            elif run is None:
                runs[row] = self._begun(state, row, answers)
            else:
                run.tell(answers)
            run = runs[row]
            questions.append(None if run is None else run.ask())
        after = self._after(state, questions, runs, resting)
        told, layout, paid = (tape.view for tape in tapes)
        after = replace(after, told=told, layout=layout, paid=paid, k=observation["k"])
        self._live.update(told=told, runs=runs, tapes=tapes)
        return _query(form, after.asked, questions), after

    def _after(
        self,
        state: CalledBackState,
        questions: list[Question | None],
        runs: list[Conversation | None],
        resting: Bool[Tensor, "B"],
    ) -> CalledBackState:
        """The memory with these questions, and with what solvers have found that ask nothing more."""
        asked = {name: part.cpu().numpy().copy() for name, part in state.asked.items()}
        for row, question in enumerate(questions):
            if question is not None:
                for name, rows in asked.items():
                    rows[row] = question.places[name]
        places = {name: torch.from_numpy(rows).to(state.asked[name]) for name, rows in asked.items()}
        found = torch.where(resting.unsqueeze(-1), state.found, places[state.form.place])
        multipliers, status = state.multipliers.clone(), state.status.clone()
        for row, run in enumerate(runs):
            if run is not None and run.finished:
                solution = run.solution
                status[row] = SPENT if solution is None else solution.status
                if solution is not None:
                    given = solution.multipliers
                    found[row] = torch.from_numpy(solution.x).to(found)
                    multipliers[row] = 0.0 if given is None else torch.from_numpy(given).to(multipliers)
        return replace(
            state,
            asked=places,
            count=state.count + ~resting,
            found=found,
            multipliers=multipliers,
            status=status,
            finished=torch.tensor([question is None for question in questions], device=found.device),
        )

    # The live solvers ----------------------------------------------------------------------------

    def _functions(self, form: Form, known: dict[str, Tensor], row: int) -> HostFunctions:
        return HostFunctions(type(self).__name__, form, row_of(known, row))

    def _begun(self, state: CalledBackState, row: int, answers: dict[str, np.ndarray]) -> Conversation:
        """The solver of a row, which knows the answers to the environment's own question."""
        functions = self._functions(state.form, state.known, row)
        functions.hold_first(answers)
        begin = row_of(state.begin, row)
        functions.multipliers = begin["multipliers"]
        settings = {"method": self.spec.name, "start": begin["start"], "tol": self.tol}
        settings |= {"hessian": self.hessian, "bounded": self.bounded, "options": self.options}
        return Conversation(functions, settings)

    def _resumed(
        self, state: CalledBackState, observation: Observation, resting: Bool[Tensor, "B"]
    ) -> tuple[list[Conversation | None], tuple[Tape, Tape, Tape]]:
        """The live solvers of ``state`` and its past: those at hand, or rebuilt where they are to ask."""
        if self._live.get("told") is state.told:
            self._live.pop("told")
            return self._live.pop("runs"), self._live.pop("tapes")
        runs = [
            None if over else self._replay(state, row, observation)
            for row, over in enumerate(resting.tolist())
        ]
        return runs, (Tape(state.told), Tape(state.layout), Tape(state.paid))

    def _replay(self, state: CalledBackState, row: int, observation: Observation) -> Conversation | None:
        if not int(state.count[row]):
            return None
        past = _past(state, row, observation)[: int(state.count[row])]
        run = self._begun(state, row, past[0])
        for answers in past[1:]:
            run.ask()
            run.tell(answers)
        question = run.ask()
        asked = {name: part[row].cpu().numpy() for name, part in state.asked.items()}
        if question is None or any(not np.array_equal(question.places[name], asked[name]) for name in asked):
            raise RuntimeError(
                f"{type(self).__name__}: its solver asks something else when it is rebuilt and told the same "
                "answers; was the run saved by another version of it?"
            )
        return run

    def _note(
        self, form: Form, observation: Observation, shown: Tensor, tapes: tuple[Tape, Tape, Tape]
    ) -> None:
        """Add an answer to the past."""
        told, layout, paid = tapes
        some = shown.any(0).tolist()
        for i, kind in enumerate(form.offer.kinds):
            if some[i]:
                numbers = observation[kind].flatten(1)
                told.append(torch.where(shown[:, i : i + 1], numbers, torch.zeros_like(numbers)))
        bits = 2 ** torch.arange(shown.shape[1], device=shown.device)
        paid.append((shown * bits).sum(-1, keepdim=True))
        layout.append((shown.any(0, keepdim=True) * bits).sum(-1, keepdim=True).expand(len(shown), 1))


def _shown(form: Form, observation: Observation) -> Bool[Tensor, "B kinds"]:
    """What each row was answered."""
    if form.menu:
        return observation[ANSWERED] > 0
    like = observation[form.place]
    return torch.ones(len(like), len(form.offer.kinds), dtype=torch.bool, device=like.device)


def _answers(
    form: Form, observation: Observation, shown: Bool[Tensor, "B kinds"]
) -> list[dict[str, np.ndarray]]:
    """The answers of each row, by kind, on the host."""
    marks = shown.tolist()
    there = [any(column) for column in zip(*marks, strict=True)]
    kinds = [(i, kind) for i, kind in enumerate(form.offer.kinds) if there[i]]
    host = {kind: observation[kind].double().cpu().numpy() for _, kind in kinds}
    return [{kind: host[kind][row] for i, kind in kinds if mark[i]} for row, mark in enumerate(marks)]


def _past(state: CalledBackState, row: int, observation: Observation) -> list[dict[str, np.ndarray]]:
    """All answers that a row was given, in order."""
    numbers, place, found = state.told[row].double().cpu().numpy(), 0, []
    for layout, paid in zip(state.layout[row].tolist(), state.paid[row].tolist(), strict=True):
        answers = {}
        for i, kind in enumerate(state.form.offer.kinds):
            if layout >> i & 1:
                shape = tuple(observation[kind].shape[1:])
                size = int(np.prod(shape))
                if paid >> i & 1:
                    answers[kind] = numbers[place : place + size].reshape(shape)
                place += size
        found.append(answers)
    return found


def _query(form: Form, asked: dict[str, Tensor], questions: list[Question | None]) -> Action:
    """The batch's query of the rows' questions; rows without one want nothing."""
    if form.menu:
        device = asked[form.place].device
        wanted = {
            kind: torch.tensor([q is not None and kind in q.kinds for q in questions], device=device)
            for kind in form.offer.kinds
        }
        return form.offer.query(wanted, **asked)
    return asked if len(asked) > 1 else asked[form.place]

"""A session of ranking: an agent asks, a person answers round by round, every answer is kept.

No page is in it. Whoever shows the pictures of :attr:`Session.round` calls :meth:`Session.click` for each
point that the person chooses, or :meth:`Session.none_better`; as many clicks as the round asks for end it.
The file of the session is written before the next round is shown, so that whatever happens costs no more than
the clicks of one round. A call that does not fit raises :class:`SessionError` and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from optenvs import agents
from optenvs.core.rollout import Run, rollout
from optenvs.envs.ranking.people import check_ranking

from .rounds import Pictures, Round, draw, follow, pictured, start
from .store import Record, Said, SessionError, Settings, Store, read

_SHADE = 0.003  # of the lightness of a picture, for rounding on another machine


class OutOfDate(SessionError):
    """An answer to something that is no longer shown: from an old tab, or by a double click."""


class Session:
    """An agent, an environment with pictures, and the person who ranks; :func:`open_session` makes one.

    Args:
        record: the settings, and the answers so far.

    Attributes:
        settings: see :class:`~optenvs.human.store.Settings`.
        rounds: all rounds so far; the last one waits for its answer.
        clicks: the indices of this round's points chosen so far, the best first.
        moment: the number of changes since the session was opened. Calls that state another one are out of
            date.

    Raises:
        ValueError: settings that cannot be used, or answers that were given to other pictures. TypeError: an
            environment without pictures.
    """

    def __init__(self, record: Record) -> None:
        self.settings = record.settings
        self._store = Store(None)
        self.env = pictured(self.settings.environment, self.settings.keywords)
        self.agent = agents.make(self.settings.agent, **self.settings.hyperparameters)
        self.rounds: list[Round] = [start(self.env, self.agent, self.settings.seed)]
        self.clicks: tuple[int, ...] = ()
        self.moment = 0
        self._record = Record(self.settings, (), record.undone)
        for said in record.said:
            _recognised(self.round, said)
            self._check(said.ranking, f"round {self.round.number}")
            self._advance(said)

    def keep(self, store: Store) -> None:
        """Keep it there from now on."""
        store.write(self.record)
        self._store = store

    # What is shown -----------------------------------------------------------------------------

    @property
    def round(self) -> Round:
        """The round that waits for its answer; the last one where the episode is over."""
        return self.rounds[-1]

    @property
    def over(self) -> bool:
        """Whether the budget is spent, and nothing is asked any more."""
        return self.round.over

    @property
    def record(self) -> Record:
        """The answers so far, as they are kept."""
        return self._record

    def best(self) -> Pictures:
        """The pictures that the agent stood behind before each round, up to now."""
        return draw(self.env, torch.stack([turn.recommended for turn in self.rounds]))

    # What a person does ------------------------------------------------------------------------

    def click(self, index: int, moment: int | None = None) -> None:
        """Choose the next best point of the round; the last one that is asked for ends it."""
        self._current(moment)
        self._check((*self.clicks, index), "click", partly=True)
        if len(self.clicks) + 1 == self.round.named:
            self.answer((*self.clicks, index))
        else:
            self.clicks = (*self.clicks, index)
            self.moment += 1

    def choose(self, slot: int, moment: int | None = None) -> None:
        """Click what is at a place of the screen, see :attr:`Round.display`."""
        self._current(moment)
        display = self.round.display
        if not 0 <= slot < len(display):
            raise SessionError(f"picture: expected one of the {len(display)} shown, got number {slot + 1}")
        self.click(display[slot])

    def none_better(self, moment: int | None = None) -> None:
        """Answer that no point is better than what the agent stands behind."""
        self.answer((), moment)

    def answer(self, ranking: Sequence[int], moment: int | None = None) -> None:
        """Answer the round.

        Args:
            ranking: as many points as the round asks for, the best first; or none.
            moment: when it was asked, see :class:`Session`.
        """
        self._current(moment)
        self._check(ranking, "ranking")
        self._advance(Said(tuple(ranking), shades(self.round)))
        self.clicks = ()
        self.moment += 1

    def undo_click(self, moment: int | None = None) -> None:
        """Take back the last click of this round."""
        self._current(moment, over=True)
        if not self.clicks:
            raise SessionError("undo: nothing has been clicked in this round")
        self.clicks = self.clicks[:-1]
        self.moment += 1

    def undo_round(self, moment: int | None = None) -> None:
        """Take back the last answer: its round waits again, with nothing clicked."""
        self._current(moment, over=True)
        if len(self.rounds) == 1:
            raise SessionError("undo: this is the first round")
        record = Record(self.settings, self._record.said[:-1], self._record.undone + 1)
        self._store.write(record)
        self._record, self.clicks = record, ()
        self.rounds.pop()
        self.moment += 1

    # How it is done ----------------------------------------------------------------------------

    def _advance(self, said: Said) -> None:
        record = Record(self.settings, (*self._record.said, said), self._record.undone)
        after = follow(self.env, self.agent, self.round, [entry.ranking for entry in record.said])
        self._store.write(record)
        self._record = record
        self.rounds.append(after)

    def _current(self, moment: int | None, over: bool = False) -> None:
        if moment is not None and moment != self.moment:
            raise OutOfDate("this was already answered, or undone, elsewhere: nothing was changed")
        if self.over and not over:
            raise SessionError("the budget is spent: there is nothing to rank any more")

    def _check(self, ranking: Sequence[int], name: str, partly: bool = False) -> None:
        if not len(ranking):
            return
        named = self.round.named
        try:
            check_ranking(name, ranking, len(self.round.points), named, 0 if partly else named)
        except (ValueError, TypeError) as error:
            raise SessionError(str(error)) from error


def shades(turn: Round) -> tuple[float, ...]:
    """The mean lightness of each picture of a round."""
    means = turn.pictures.double().flatten(1).mean(1) / 255
    return tuple(round(mean, 4) for mean in means.tolist())


def _recognised(turn: Round, said: Said) -> None:
    """Whether the pictures of a round are those to which an answer was given."""
    now = shades(turn)
    same = len(now) == len(said.shades) and all(
        abs(a - b) < _SHADE for a, b in zip(now, said.shades, strict=True)
    )
    if turn.over or not same:
        raise ValueError(
            f"round {turn.number}: its pictures are not those that were ranked; the session was made by "
            "another version, or its file was changed"
        )


def open_session(settings: Settings | None = None, folder: str | os.PathLike[str] | None = None) -> Session:
    """Begin a session, or go on with one.

    Args:
        settings: what it is about; ``None``: what the folder says.
        folder: where it is kept, and where an old one is looked for; ``None``: it is kept nowhere.

    Raises:
        FileNotFoundError: neither settings nor a session. ValueError: the folder has a session with other
            settings, and what :class:`Session` raises.
    """
    store = Store(folder)
    kept = store.find()
    if kept is None:
        if settings is None:
            raise FileNotFoundError(f"no session at {store.path}")
        session = Session(Record(settings))
        session.keep(store)
        return session
    for name, value in vars(settings or kept.settings).items():
        there = getattr(kept.settings, name)
        if value != there:
            raise ValueError(f"{name}: the session at {store.path} has {there!r}, got {value!r}")
    session = Session(kept)
    session.keep(store)
    return session


def replay_session(path: str | os.PathLike[str], record: tuple[str, ...] = ("point", "order")) -> Run:
    """The episode of a session: the same environment, agent and seed with the recorded answers.

    Its states are those of the session, bit for bit on the same machine and libraries.

    Args:
        path: a session's folder, or its file.
        record: observation fields to keep, see :func:`optenvs.rollout`.

    Raises:
        FileNotFoundError: there is no session. ValueError: it is damaged, or its answers were given to other
            pictures than its agent shows here.
    """
    session = Session(read(path))
    said = [entry.ranking for entry in session.record.said]
    env = session.env.replace(rankings=tuple(said))
    return rollout(env, session.agent, seed=session.settings.seed, steps=len(said), record=record)

"""Two forms of query behind one pair of functions: a menu, and a problem that answers all it has every time.

What :class:`~agents.asking.Notes` is to a menu, it is here to both: of a problem without a menu every answer
holds every kind, so that an accepted point is not asked a second time there either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.offer import ANSWERED, Offer
from optenvs.core.oracles import inside_transform

from ..asking import Notes
from ..core import Agent, Observation

_KINDS = ("value", "gradient", "hvp")


def begin(agent: Agent, problem: Any, observation: Observation) -> Notes:
    """Notes of what ``agent`` needs, with the first answer.

    Raises:
        OracleMismatch: the problem has not all of it.
        TypeError: the problem is asked neither by a menu nor at a point.
    """
    if isinstance(getattr(problem, "menu", None), Offer):
        return Notes.begin(agent, problem, observation)
    if "point" not in observation:
        raise TypeError(
            f"agent {type(agent).__name__} asks at a point, and this problem answers "
            f"{', '.join(sorted(observation))}"
        )
    point = observation["point"]
    kinds = tuple(kind for kind in _KINDS if kind in observation)
    names = ("point", "vector") if "hvp" in kinds else ("point",)
    offer = Offer(
        places=tuple(
            (name, tuple(point.shape[1:]), str(point.dtype).removeprefix("torch.")) for name in names
        ),
        kinds=kinds,
        at=tuple(names if kind == "hvp" else ("point",) for kind in kinds),
    )
    first = observation | {name: torch.zeros_like(point) for name in names if name not in observation}
    return Notes.begin(agent, SimpleNamespace(menu=offer), _whole(first, offer))


def read(notes: Notes, observation: Observation, **asked: Tensor) -> Notes:
    """The notes with the answers of ``observation``.

    Args:
        notes: what was known.
        observation: the answer.
        **asked: the places of the last query that an answer without a menu does not repeat.
    """
    return notes.read(observation if ANSWERED in observation else _whole(observation | asked, notes.offer))


def ask(
    notes: Notes,
    observation: Observation,
    wanted: Mapping[str, Bool[Tensor, "B"]],
    **places: Tensor,
) -> tuple[Action, Notes]:
    """The query that wants some kinds at some places, but for what is held; in the problem's own form."""
    action, notes = notes.ask(wanted, **places)
    if ANSWERED in observation:
        return action, notes
    names = [name for name, *_ in notes.offer.places]
    return action["point"] if names == ["point"] else {name: action[name] for name in names}, notes


def _whole(observation: Observation, offer: Offer) -> Observation:
    answered = torch.ones_like(observation["point"][:, :1], dtype=torch.int64).expand(-1, len(offer.kinds))
    return observation | {ANSWERED: answered}


def may_look(mask: Tensor) -> bool:
    """Whether the host may read a mask, to leave out work: not of a far device, and not while recorded."""
    return mask.device.type == "cpu" and not inside_transform(mask)

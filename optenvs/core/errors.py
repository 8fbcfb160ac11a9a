"""Errors that say what came, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gymnasium.error import InvalidAction, NameNotFound

if TYPE_CHECKING:
    from torch import Tensor


class UnknownName(NameNotFound, KeyError):
    """No environment or agent has this name. Also a ``KeyError`` and Gymnasium's ``NameNotFound``."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownKeyword(TypeError):
    """A keyword that an environment or agent does not take."""


class OracleMismatch(TypeError):
    """An agent needs an oracle that the environment does not answer."""


class UnansweredField(OracleMismatch, KeyError):
    """An agent reads a field that the answers of the environment have not. Also a ``KeyError``."""

    def __str__(self) -> str:
        return str(self.args[0])


class BudgetSpent(RuntimeError):
    """A billed callable was asked for more than its budget."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known name, if one is near, and all of them.

    One that differs by case alone is the nearest.
    """
    known, name = sorted(known), str(name)
    near = [one for one in known if one.lower() == name.lower()] or difflib.get_close_matches(
        name, known, n=1
    )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(known)})"


NUMBERS = (
    "it seems to compute with numpy's functions or with Python's numbers, through which torch sees nothing: "
    "write it in torch (torch.sin for np.sin, (x**2).sum() for a sum of floats)"
)
_BRANCH = "it seems to branch on a number of its point: torch.where(a > b, ...) answers all instances at once"
_ADVICE = {
    "data pointer": NUMBERS,  # numpy, on a tensor within vmap
    "numpy": NUMBERS,
    "'axis'": NUMBERS,
    ".item()": NUMBERS,
    "must only return Tensors": NUMBERS,
    "data-dependent control flow": _BRANCH,
}
"""What a user can do about errors of torch's, by words in them."""


def cause(error: Exception) -> str:
    """An error of a user's function in one line, and what to do where torch's own words do not say it."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else "without a message"
    advice = next((f"; {said}" for words, said in _ADVICE.items() if words in text), "")
    return f"{type(error).__name__}: {line}{advice}"


def check_keywords(owner: str, given: Iterable[str], accepted: Iterable[str]) -> None:
    """Raise :class:`UnknownKeyword` for the first keyword of ``given`` that is not ``accepted``.

    The message has Python's own words: clients that offer a keyword on trial (TorchRL a ``frameskip``) know a
    refusal by them.
    """
    accepted = list(accepted)
    for keyword in given:
        if keyword not in accepted:
            hint = suggest(keyword, accepted)
            raise UnknownKeyword(f"{owner} got an unexpected keyword argument {keyword!r}{hint}")


def parts(owner: str, action: Any, names: Iterable[str]) -> dict[str, Tensor]:
    """The ``action``, where it is a dict with these fields; an agent that asks otherwise is told so."""
    names = list(names)
    if not isinstance(action, dict) or not action.keys() >= set(names):
        came = sorted(map(str, action)) if isinstance(action, dict) else type(action).__name__
        raise TypeError(f"action: {owner} is asked by a dict with the fields {names}, got {came}")
    return action


def only_part(owner: str, action: Any) -> Tensor:
    """The ``action``, where it is one tensor; an agent that asks otherwise is told so."""
    if isinstance(action, dict) or not hasattr(action, "shape"):
        came = f"the fields {sorted(map(str, action))}" if isinstance(action, dict) else type(action).__name__
        raise TypeError(f"action: {owner} is asked by one tensor, got {came}")
    return action


def check_oracles(agent: str, needs: Iterable[str], environment: str, answers: Iterable[str]) -> None:
    """Raise :class:`OracleMismatch` when ``answers`` lacks one of ``needs``; either will do of ``a|b``."""
    answers = tuple(answers)
    missing = [kind.replace("|", " or ") for kind in needs if not {*kind.split("|")} & {*answers}]
    if missing:
        raise OracleMismatch(
            f"agent {agent} needs the oracle(s) {', '.join(missing)}, but {environment} answers "
            f"{', '.join(answers)}; choose another oracle= for the environment or another agent"
        )


def explained(error: KeyError, agent: object, environment: str, seen: Mapping[str, Any]) -> KeyError:
    """What to raise for a ``KeyError`` of an agent: of a field that ``seen``, the answer, lacks."""
    field = error.args[0] if error.args else None
    if not isinstance(field, str) or not field.isidentifier() or field in seen:
        return error
    return UnansweredField(
        f"agent {type(agent).__name__} reads {field!r} of an answer, but {environment} answers "
        f"{', '.join(seen)}; it is for problems of another kind"
    )


__all__ = [
    "NUMBERS",
    "BudgetSpent",
    "InvalidAction",
    "OracleMismatch",
    "UnansweredField",
    "UnknownKeyword",
    "UnknownName",
    "cause",
    "check_keywords",
    "check_oracles",
    "explained",
    "only_part",
    "parts",
    "suggest",
]

"""What methods for two levels share: sizes, what a problem lacks, and rows that go in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.errors import check_oracles
from optenvs.core.ledger import Ledger
from optenvs.core.offer import ANSWERED, Offer
from optenvs.core.oracles import inside_transform
from optenvs.core.struct import select, static, struct

from ..core import Agent, Observation, by_row, require

T = TypeVar("T")


@struct
class SaddleState:
    """What single loops remember that follow a saddle (theta, lambda) beside (x, y, z).

    Attributes:
        x, y, theta, lam, z: of the iteration; multipliers ``(B, 0)`` without constraints.
        k: iterations so far, ``(B, 1)``.
        outer: where in its iteration a row is, ``(B,)``.
        settings: the agent's numbers by name, ``(B, 1)`` each.
        geometry: the problem's.
        work: ``projections``.
        offer: what can be asked.
    """

    x: Float[Tensor, "B n"]
    y: Float[Tensor, "B m"]
    theta: Float[Tensor, "B m"]
    lam: Float[Tensor, "B p"]
    z: Float[Tensor, "B p"]
    k: Float[Tensor, "B 1"]
    outer: Bool[Tensor, "B"]
    settings: dict[str, Float[Tensor, "B 1"]]
    geometry: Any
    work: Ledger
    offer: Offer = static()


def constrained(problem: Any) -> bool:
    """Whether the lower problem has constraints."""
    return "constraints" in offer_of(problem).kinds


def offer_of(problem: Any, name: str = "") -> Offer:
    """What can be asked.

    Args:
        problem: of two levels.
        name: of the agent's class, for the error.

    Raises:
        TypeError: it is no problem of two levels.
    """
    offer = getattr(problem, "menu", None)
    if not isinstance(offer, Offer) or getattr(problem, "geometry", None) is None:
        whose = f"agent {name}: " if name else ""
        raise TypeError(f"{whose}problem: expected one of two levels, got {type(problem).__name__}")
    return offer


def check(agent: Agent, problem: Any, *projections: str) -> Offer:
    """What can be asked, where it has all kinds that ``agent`` needs, and the projections.

    Raises:
        OracleMismatch: a kind is missing.
        TypeError: it is no problem of two levels, or nobody knows a projection.
    """
    name = type(agent).__name__
    offer = offer_of(problem, name)
    check_oracles(name, agent.needs, "the problem", offer.kinds)
    for projection in projections:
        if projection not in problem.geometry.has:
            known = ", ".join(problem.geometry.has) or "none"
            raise TypeError(
                f"agent {name} needs the projection {projection!r} of the problem's geometry, which has "
                f"{known}"
            )
    return offer


def rate(
    agent: Agent, field: str, like: Float[Tensor, "B _"], rule: Callable[[], Tensor] | None = None
) -> Float[Tensor, "B 1"]:
    """A number of the agent, one a row; where it is ``None``, what the rule says."""
    value = getattr(agent, field)
    if value is None and rule is not None:
        return rule().to(like).reshape(-1, 1)
    rows = torch.as_tensor(by_row(field, value, like), dtype=like.dtype, device=like.device)
    return rows.reshape(-1, 1).expand(len(like), 1)


def require_numbers(
    agent: Agent, field: str, holds: Callable[[Tensor], Tensor], expected: str, *, none: bool = False
) -> None:
    """Raise ``ValueError`` unless a field is a number, or a tensor of such, for which ``holds`` is true."""
    value = getattr(agent, field)
    fits = none and value is None
    if isinstance(value, int | float | Tensor) and not isinstance(value, bool):
        fits = bool(holds(torch.as_tensor(value)).all())
    require(agent, field, fits, f"{expected}, or a tensor (B,) of such{', or None' if none else ''}")


def constants(agent: Agent, field: str, problem: Any, *names: str, expected: str = "a number") -> Any:
    """What the problem tells of its functions, ``(B, 1)`` each; one alone where one name is given.

    Raises:
        ValueError: it tells nothing, and ``field`` would follow from it.
    """
    if problem.smoothness is None:
        raise ValueError(
            f"{type(agent).__name__}: {field}: the problem tells no constants from which it would follow; "
            f"expected {expected}"
        )
    found = [getattr(problem.smoothness, name).unsqueeze(-1) for name in names]
    return found[0] if len(found) == 1 else found


def by_phase(
    phase: Bool[Tensor, "B"],
    first: Callable[[], tuple[Action, Any]],
    second: Callable[[], tuple[Action, Any]],
) -> tuple[Action, Any]:
    """Row by row what ``second`` gives where ``phase`` holds, and what ``first`` gives elsewhere."""
    return by_stage(phase, first, second)


def by_stage(stage: Tensor, *acts: Callable[[], T]) -> T:
    """Row by row what the act of its stage gives, a tree of rows; ``stage`` has its number, ``(B,)``.

    Eagerly on the CPU, an act that no row is at costs nothing; nothing else depends on it.
    """
    numbers = range(len(acts))
    if stage.device.type == "cpu" and not inside_transform(stage):
        numbers = sorted(set(stage.long().tolist()))
    first, *others = numbers
    found = acts[first]()
    for number in others:
        found = select(stage == number, acts[number](), found)
    return found


def advanced(
    state: T, observation: Observation, stage: Tensor, *steps: Callable[[T, Observation], T]
) -> tuple[T, Bool[Tensor, "B"]]:
    """What the last answer makes of a memory that keeps what it ``wanted``, and whether all of it was paid.

    Args:
        state: the memory; a row that has asked nothing yet, or whose budget did not pay, stays as it is.
        observation: the answer.
        stage: the number of the step that is each row's, ``(B,)``.
        *steps: what is done with the answer.
    """
    wanted: Int64[Tensor, "B kinds"] = state.wanted  # type: ignore[attr-defined]
    paid = (observation[ANSWERED] >= wanted).all(-1)
    after = by_stage(stage, *((lambda step=step: step(state, observation)) for step in steps))
    return select(paid & wanted.any(-1), after, state), paid


def refuse(
    agent: Agent,
    problem: Any,
    *,
    many: bool = False,
    constraints: bool = False,
    inequalities: bool = False,
    bounded: bool = False,
    batches: bool = False,
) -> None:
    """Raise ``TypeError`` for a problem that has what the agent's method cannot do.

    Args:
        agent: whose name is told.
        problem: of two levels.
        many: refuse a lower problem that is known to have several solutions at one x.
        constraints: one with any constraints.
        inequalities: one with inequalities.
        bounded: one whose y is confined to a set of which only the projection is known.
        batches: answers on mini-batches.
    """
    name, geometry = type(agent).__name__, problem.geometry
    if many and problem.unique is False:
        raise TypeError(
            f"agent {name} needs a lower problem with one solution at each x; this one has several"
        )
    if constraints and geometry.equal.shape[1]:
        count = geometry.equal.shape[1]
        raise TypeError(f"agent {name} needs a lower problem without constraints; this one has {count}")
    if inequalities and not bool(geometry.equal.all()):
        count = int((~geometry.equal[0]).sum())
        raise TypeError(f"agent {name} needs a lower problem without inequalities; this one has {count}")
    if bounded and not geometry.lower_free:
        raise TypeError(
            f"agent {name} needs a lower variable in the whole space; this problem projects it onto a set Y"
        )
    if batches and problem.stochastic:
        raise TypeError(
            f"agent {name} needs answers that rest on all data; this problem's rest on mini-batches"
        )


def split(both: Float[Tensor, "B nm"], x: Float[Tensor, "B n"]) -> tuple[Tensor, Tensor]:
    """The parts by x and by y."""
    return both[:, : x.shape[1]], both[:, x.shape[1] :]


def start_of(observation: Observation) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
    """The pair at which the problem begins."""
    return observation["x"], observation["y"]

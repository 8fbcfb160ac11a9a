"""What is known of an agent without importing it."""

from __future__ import annotations

from typing import NamedTuple

TAKES = ("equations", "inequalities", "bounds", "minibatches")
"""What some agents can do with and others of their kind refuse: constraints (of two levels: the lower one's),
bounds that are kept, and answers that rest on mini-batches."""


class AgentSpec(NamedTuple):
    """One agent of a family, as the family's ``AGENTS`` declares it.

    Attributes:
        name: for :func:`agents.make`.
        module: where it is, within the family.
        cls: its class.
        needs: the oracle kinds that it needs; of ``"a|b"`` either will do.
        takes: what of a problem it can do with, of :data:`TAKES`, where not all agents of its kind can.
    """

    name: str
    module: str
    cls: str
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()

"""What is known of an agent without importing it."""

from __future__ import annotations

from typing import NamedTuple


class AgentSpec(NamedTuple):
    """One agent of a family, as the family's ``AGENTS`` declares it.

    Attributes:
        name: for :func:`agents.make`.
        module: where it is, within the family.
        cls: its class.
        needs: the oracle kinds that it needs; of ``"a|b"`` either will do.
    """

    name: str
    module: str
    cls: str
    needs: tuple[str, ...]

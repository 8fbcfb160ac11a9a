"""Declarations of environments: one block an id, strings and data only.

A package of yours adds its own through the entry-point group ``optenvs.environments`` (each entry names a
function that calls :func:`register`), or by calling :func:`register` itself.
"""

from __future__ import annotations

import importlib.metadata

from .bilevel import BILEVEL
from .constrained import CONSTRAINED
from .convex_relu import CONVEX_RELU
from .grokking import GROKKING
from .landscapes import LANDSCAPES
from .meta import META
from .network import NETWORK
from .particles import PARTICLES
from .policy import POLICY
from .ranking import RANKING
from .spec import EnvSpec
from .surrogate import SURROGATE
from .training import TRAINING

__all__ = ["ENVIRONMENTS", "PLAIN", "EnvSpec", "load_plugins", "register"]

ENVIRONMENTS: dict[str, EnvSpec] = {}
"""Every declared environment that is an oracle, by id."""
PLAIN: dict[str, EnvSpec] = {}
"""Those that are plain Gymnasium environments (:attr:`EnvSpec.plain`), outside of the oracles' contract."""


def register(spec: EnvSpec) -> EnvSpec:
    """Declare an environment.

    Raises:
        ValueError: the id is taken by another declaration.
    """
    if (ENVIRONMENTS | PLAIN).get(spec.id, spec) != spec:
        raise ValueError(f"id: {spec.id!r} is already registered")
    (PLAIN if spec.plain else ENVIRONMENTS)[spec.id] = spec
    return spec


def load_plugins() -> None:
    """Call the declaring function of every installed package that offers environments."""
    for entry in importlib.metadata.entry_points(group="optenvs.environments"):
        entry.load()()


_FAMILIES = (
    BILEVEL,
    CONSTRAINED,
    GROKKING,
    CONVEX_RELU,
    LANDSCAPES,
    META,
    NETWORK,
    PARTICLES,
    POLICY,
    RANKING,
    SURROGATE,
    TRAINING,
)
for _spec in (_spec for _family in _FAMILIES for _spec in _family):
    register(_spec)

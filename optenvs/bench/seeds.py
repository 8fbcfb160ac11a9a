"""Seeds by name: a run's seed is a hash of what the run is, whatever the order of the runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optenvs.bench.hashing import digest


def derive_seed(
    suite: str,
    environment: str | Mapping[str, Any],
    instance: int,
    agent: str | Mapping[str, Any],
    repetition: int,
    phase: str,
    *,
    seed: int = 0,
    use_suite: bool = True,
    use_environment: bool = True,
    use_instance: bool = True,
    use_agent: bool = False,
    use_repetition: bool = True,
    use_phase: bool = True,
) -> int:
    """Derives the seed of one run from its coordinates.

    Runs that differ only along an axis whose flag is False share a seed. By default that is the
    agent: all agents meet the same instances, the paired design that every profile in ``profiles``
    assumes. ``use_phase`` keeps the seeds that tune a learning rate apart from those that judge it.

    Args:
        suite: Name of the experiment.
        environment: Id of the environment, or a mapping of its id and keyword arguments.
        instance: Index of the problem instance.
        agent: Name of the agent, or a mapping of its name and hyperparameters.
        repetition: Index of the repetition on that instance.
        phase: "tune" or "judge".
        seed: The experiment's own seed; always part of the hash.
        use_suite: Whether the suite's name changes the seed.
        use_environment: Whether the environment changes the seed.
        use_instance: Whether the instance changes the seed.
        use_agent: Whether the agent changes the seed.
        use_repetition: Whether the repetition changes the seed.
        use_phase: Whether the phase changes the seed.

    Returns:
        An integer in [0, 2**63), which fits a signed 64-bit key.
    """
    axes = {
        "suite": (use_suite, suite),
        "environment": (use_environment, environment),
        "instance": (use_instance, instance),
        "agent": (use_agent, agent),
        "repetition": (use_repetition, repetition),
        "phase": (use_phase, phase),
    }
    # A left-out axis leaves no trace, so a shared seed is the same whatever stood in that place.
    key = {name: value for name, (used, value) in axes.items() if used}
    return int.from_bytes(digest({"seed": seed, **key})[:8], "big") >> 1

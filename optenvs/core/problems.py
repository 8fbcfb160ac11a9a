"""What may stand where a problem is wanted: an environment, an id, or what was made of one."""

from __future__ import annotations

from typing import Any

from optenvs import ids

from .env import OptimizationEnv

_TRANSPARENT = ("OrderEnforcing", "PassiveEnvChecker")  # what gym.make puts around by itself
_CUTS = ("max_episode_steps", "max_cycles")


def as_problem(env: Any) -> OptimizationEnv:
    """The problem that ``env`` stands for.

    Args:
        env: a problem; an id such as ``"optenvs/Rosenbrock-v0"``; or an environment that ``gym.make``,
            ``gym.make_vec``, ``make_sb3``, ``parallel_env`` or ``aec_env`` made; its episode stays as it is.

    Raises:
        TypeError: something else, or a wrapper or a limit on steps that the problem inside does not have.
        UnknownName: no such id.
    """
    if isinstance(env, OptimizationEnv):
        return env
    if isinstance(env, str):
        return ids.problem_of(env)
    layer = env
    while True:
        held = getattr(layer, "__dict__", {})
        if isinstance(held.get("core"), OptimizationEnv):
            break
        inner = held.get("env", held.get("venv"))
        if inner is None:
            raise TypeError(
                "env: expected a problem (optenvs.make gives one), an id, or an environment of optenvs made "
                f"by gym.make and its like, got {type(env).__name__}"
            )
        if type(layer).__name__ not in _TRANSPARENT:
            raise TypeError(
                f"env: {type(layer).__name__} is around {getattr(layer, 'unwrapped', inner)}, and the "
                "problem inside knows nothing of it; give env.unwrapped.core to go without"
            )
        layer = inner
    for name in _CUTS:
        if held.get(name) is not None:
            raise TypeError(f"env: {name}={held[name]} is not the problem's own; give env.core, and steps=")
    return held["core"]

"""Simulated tasks as batches of episodes: for whatever is learned from what a policy does in them."""

from .episodes import Draws, Episode, episodes, returns
from .tasks import TASKS, Acrobot, CartPole, Pendulum, States, Task

__all__ = [
    "TASKS",
    "Acrobot",
    "CartPole",
    "Draws",
    "Episode",
    "Pendulum",
    "States",
    "Task",
    "episodes",
    "returns",
]

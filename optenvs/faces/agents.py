"""What both faces of many agents share: one instance, who the agents are, and what each of them may see."""

from __future__ import annotations

import secrets
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import logger, spaces
from torch import Tensor

from optenvs.core.env import Action, State
from optenvs.core.errors import UnknownName
from optenvs.core.evaluations import due
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.state import stopped
from optenvs.core.struct import replace
from optenvs.core.threads import Threads

from .info import check_form
from .proposals import Proposals
from .seeding import Episodes, instance_keys, over
from .single import FaceState

RENDER_MODES = ("human", "rgb_array")


class AgentsFace:
    """One instance of a problem of many agents, in numpy, by the agents' names.

    Attributes:
        core: the problem.
        possible_agents: all agents; ``agents`` are those of the episode, none once it is over.
        max_cycles: see the faces; it may be set at any time.
        info: the form of the ``infos``, see :mod:`optenvs.faces.info`.
        resets: how many episodes have begun here.
    """

    def __init__(
        self,
        core: MultiAgentEnv,
        render_mode: str | None = None,
        max_cycles: int | None = None,
        info: str = "nested",
    ) -> None:
        if not isinstance(core, MultiAgentEnv):
            raise TypeError(f"core: expected a MultiAgentEnv, got {type(core).__name__}")
        if render_mode not in (None, *RENDER_MODES):
            raise ValueError(f"render_mode: expected one of {RENDER_MODES} or None, got {render_mode!r}")
        whole = isinstance(max_cycles, int | np.integer) and not isinstance(max_cycles, bool)
        if max_cycles is not None and not (whole and max_cycles >= 1):
            raise ValueError(f"max_cycles: expected a whole number >= 1 or None, got {max_cycles!r}")
        self.core = core
        self.render_mode = render_mode
        self.max_cycles = max_cycles
        self.info = check_form(info)
        self.metadata: dict[str, Any] = {
            "name": core.name,
            "render_modes": list(RENDER_MODES),
            "render_fps": 10,
            "is_parallelizable": False,  # a face of its own is the way
        }
        self.possible_agents: list[str] = [f"{core.agent_name}_{i}" for i in range(core.agents)]
        self.agents: list[str] = []
        self.observation_spaces = dict.fromkeys(self.possible_agents, core.agent_observation_space)
        self.action_spaces = dict.fromkeys(self.possible_agents, core.agent_action_space)
        self.resets = 0
        self._index = {name: i for i, name in enumerate(self.possible_agents)}
        self._on_host = core.torch_device.type == "cpu"
        self._proposals = Proposals(core, self.possible_agents)
        self._evaluations = core.evaluations
        self._shared = {name: name for name in core.common} | {f"all_{name}": name for name in core.public}
        self._own = tuple(core.agent_observation_fields())
        self._fields = tuple({*self._own, *self._shared.values()})
        self._episodes: Episodes | None = None
        self._path: list[State] = []
        self._finished = False

    def observation_space(self, agent: str) -> spaces.Space:
        """What ``agent`` sees; one object for all agents."""
        self._known(agent)
        return self.core.agent_observation_space

    def action_space(self, agent: str) -> spaces.Space:
        """What ``agent`` can ask; one object for all agents."""
        self._known(agent)
        return self.core.agent_action_space

    @cached_property
    def state_space(self) -> spaces.Space:
        """The space of :meth:`state`: the problem's observation space, flattened by Gymnasium's rule."""
        return spaces.flatten_space(self.core.observation_space)

    def state(self) -> np.ndarray:
        """The global view: the last answer to all agents as one vector, for learners with a central critic.

        ``gymnasium.spaces.unflatten(env.core.observation_space, env.state())`` takes it apart.
        """
        answer = self._current().observation
        arrays = {name: value.cpu().numpy()[0] for name, value in answer.items()}
        return np.asarray(spaces.flatten(self.core.observation_space, arrays))

    def render(self) -> np.ndarray | None:
        """The picture of the episode so far: an array, or in mode ``human`` a window that shows it.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        self._current()
        if self.render_mode is None:
            logger.warn("render() draws only with render_mode='rgb_array' or 'human'")
            return None
        picture = self.core.picture(self._path)
        if self.render_mode == "rgb_array":
            return picture
        _show(picture, self._title)
        return None

    def close(self) -> None:
        """Close the window of mode ``human``."""
        if self.render_mode == "human":
            from matplotlib import pyplot

            pyplot.close(self._title)

    # For the faces -----------------------------------------------------------------------------

    @property
    def _title(self) -> str:
        return f"{self.core.name} {id(self)}"

    def _current(self) -> State:
        """The episode, a batch of one."""
        raise NotImplementedError

    def _known(self, agent: str) -> int:
        if agent not in self._index:
            names = self.possible_agents
            raise UnknownName(f"no agent {agent!r}; they are {names[0]}, ..., {names[-1]}")
        return self._index[agent]

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> FaceState:
        """The first answer of an episode: of a seed, of an instance, or the next of the sequence."""
        device = self.core.torch_device
        if seed is not None:
            episodes = Episodes.seeded(seed, 1, device)
        elif self._episodes is None:
            episodes = Episodes.seeded(secrets.randbits(63), 1, device)
        else:
            episodes = self._episodes.next()
        keys = instance_keys(options, episodes.keys())
        with torch.no_grad(), Threads(self.core, 1):
            state = self.core.reset(keys)
        self._episodes, self._finished = episodes, False
        self.resets += 1
        return FaceState(state=state, episodes=episodes)

    def finish(self) -> None:
        """End the episode: its next query is not asked or billed, and the episode ``truncated``."""
        self._current()
        self._finished = True

    def _ask(self, state: State, query: Action) -> State:
        """The next answer. One that is no number would poison a learner: the last one stands, then."""
        if self._finished:
            self._finished = False
            return stopped(state)
        with torch.no_grad(), Threads(self.core, 1):
            after = self.core.step(state, query)
            if self._evaluations is not None and due(self._evaluations, int(after.k)):
                after = self.core.evaluate(after)
        return replace(after, observation=state.observation) if bool(after.diverged) else after

    def _is_over(self, state: State) -> bool:
        # the two flags alone answer nearly always, in a fifth of the time
        return (bool(state.terminated) or bool(state.truncated)) and bool(over(state))

    def _views(self, observation: dict[str, Tensor]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of the agents' own fields, ``(N, *shape)`` each, and those that all see whole, as shown.

        The latter are the state's own memory, where that is on the CPU, and cannot be written to.
        """
        if not self._on_host:
            observation = {name: observation[name].cpu() for name in self._fields}
        arrays = {name: observation[name].numpy()[0] for name in self._fields}
        own = {name: arrays[name].copy() for name in self._own}
        for array in arrays.values():
            array.setflags(False)  # half the time of flags.writeable
        return own, {shown: arrays[name] for shown, name in self._shared.items()}

    def _remember(self, state: State, anew: bool = False) -> None:
        if self.render_mode is not None:
            self._path = [] if anew else self._path
            self._path.append(state)


def _show(picture: np.ndarray, title: str) -> None:
    """The picture in a window, where matplotlib has a display to open one on."""
    from matplotlib import pyplot

    figure = pyplot.figure(title, clear=True)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(picture)
    axes.set_axis_off()
    if figure.canvas.required_interactive_framework is not None:
        pyplot.pause(1e-3)  # lets the window draw itself

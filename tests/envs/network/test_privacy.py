"""What a node sees: its own data, its neighbours' messages to it, the global constants, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from network_gossip import act, moved
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.struct import tensors, tree_map
from optenvs.envs.network.base import Network
from optenvs.envs.network.events import EXCHANGE
from optenvs.envs.network.linear import NetworkLinear
from optenvs.envs.network.logistic import NetworkLogistic
from optenvs.envs.network.parts import Functions
from optenvs.envs.network.quadratic import NetworkQuadratic

KEYS = keys_from_seed(0, 2)
NODE = 2
CORES: dict[str, Network] = {
    "quadratic": NetworkQuadratic(nodes=6, t_max=6.0),
    "noisy": NetworkQuadratic(nodes=6, t_max=6.0, noise=1.0),
    "linear": NetworkLinear(nodes=6, t_max=6.0, samples=8, batch_size=3),
    "conjugate": NetworkLinear(nodes=6, t_max=6.0, samples=8, oracle="conjugate"),
    "logistic": NetworkLogistic(nodes=6, t_max=6.0, samples=8),
    "edges": NetworkQuadratic(nodes=6, t_max=10.0, clock="edges"),
    "rounds": NetworkQuadratic(nodes=6, t_max=10.0, clock="rounds"),
    "turns": NetworkQuadratic(nodes=6, t_max=10.0, clock="rounds", graph=["cycle", "star"]),
}


def others(own: Tensor, foreign: Tensor) -> Tensor:
    """``foreign`` in all rows of nodes but ``NODE``'s."""
    node = torch.arange(own.shape[1]).view(1, -1, *[1] * (own.ndim - 2))
    return torch.where(node == NODE, own, foreign)


def foreign_functions(core: Network, functions: Functions) -> Functions:
    """All data of another draw, but for the node's own."""
    drawn = core.draw(keys_from_seed(99, 2)).functions

    def swap(own: Tensor, foreign: Tensor) -> Tensor:
        of_nodes = own.ndim > 1 and own.shape[1] == core.agents
        return others(own, foreign) if of_nodes else foreign

    return tree_map(swap, functions, drawn)


def addressed(core: Network, state: State) -> Tensor:
    """Whose messages the next step hands to ``NODE``, ``(B, N)``."""
    if core.clock == "rounds":
        turn = int(state.hidden.traffic.gossiped[0]) % len(core.graphs)
        near = torch.from_numpy(core.graphs[turn].adjacency[NODE] > 0)
        return near.expand(2, -1)
    peer = state.observation["peer"][..., 0]
    asked = state.observation["event"][:, NODE, 0] == EXCHANGE
    return (torch.arange(core.agents) == peer[:, NODE, None]) & asked[:, None]


def twin(core: Network, tamper: bool = False) -> list[tuple[State, State]]:
    """Two runs in which all that does not concern ``NODE`` differs; ``tamper``: its messages too."""
    x = core.sample(KEYS).start["recommendation"]  # type: ignore[index]
    one = core.reset(KEYS)
    hidden = one.hidden
    other = replace(one, hidden=replace(hidden, functions=foreign_functions(core, hidden.functions)))
    pairs = [(one, other)]
    for step in range(1000):
        if one.truncated.any():
            break
        action = act(core, x)
        changed: dict[str, Any] = {}
        for name, value in action.items():
            if value.dtype.is_floating_point:
                noise = normal(KEYS, f"foreign {name}", value.shape[1:], counter=step, dtype=value.dtype)
                changed[name] = others(value, 3 * noise)
            else:
                changed[name] = others(value, torch.zeros_like(value)) if name == "compute" else value
        if not tamper:
            heard = addressed(core, one)[..., None, None]
            changed["message"] = torch.where(heard, action["message"], changed["message"])
        one, other = core.step(one, action), core.step(other, changed)
        x = moved(x, one.observation)
        pairs.append((one, other))
    assert len(pairs) > 8
    return pairs


def differing(pairs: list[tuple[State, State]]) -> set[str]:
    """The fields in which the node's rows, or what all see, ever differ."""
    found = set()
    for one, other in pairs[1:]:
        for name, value in one.observation.items():
            own, foreign = value, other.observation[name]
            if value.shape[1:2] == (6,):
                own, foreign = value[:, NODE], foreign[:, NODE]
            if not torch.equal(own, foreign):
                found.add(name)
    return found


@pytest.mark.parametrize("name", CORES)
def test_no_other_nodes_data_reach_a_node(name: str) -> None:
    pairs = twin(CORES[name])
    assert differing(pairs) == set()
    # the other nodes' rows do differ, so that there was something to see
    assert any(not torch.equal(a.observation["gradient"], b.observation["gradient"]) for a, b in pairs)
    assert any(not torch.equal(a.hidden.published, b.hidden.published) for a, b in pairs)


@pytest.mark.parametrize("name", CORES)
def test_the_messages_to_a_node_do_reach_it(name: str) -> None:
    expected = {"total", "mixed"} if CORES[name].clock == "rounds" else {"message"}
    assert differing(twin(CORES[name], tamper=True)) == expected


@pytest.mark.parametrize("name", CORES)
def test_what_a_node_knows_of_the_problem(name: str) -> None:
    core = CORES[name]
    problem = core.reset(KEYS).problem
    own = tensors(core.local(problem, NODE))
    for path, value in tensors(problem).items():
        if path.startswith("local."):
            assert torch.equal(own[path], value[:, NODE : NODE + 1])
        else:
            assert path in {
                *("mu", "L", "chi1", "chi2", "rate", "largest", "smallest", "radii", "edges", "t_max")
            }


def test_idle_nodes_rows_are_empty() -> None:
    core = CORES["quadratic"]
    state = core.reset(KEYS)
    x = core.sample(KEYS).start["recommendation"]  # type: ignore[index]
    own = state.observation["time"]
    seen = 0
    while not state.truncated.any():
        before, state = state, core.step(state, act(core, x))
        asked, shown = before.observation, state.observation
        x = moved(x, shown)
        computed, heard = asked["event"] == 1, asked["event"] == EXCHANGE
        assert torch.equal(shown["answered"], torch.where(asked["event"] == 3, 0, asked["event"]))
        assert not shown["gradient"][~computed[..., 0]].any()
        assert not shown["message"][~heard[..., 0]].any()
        idle = shown["event"] == 0
        assert torch.equal(shown["time"][idle], own[idle]), "the time of an idle node's next event"
        assert not shown["elapsed"][idle].any()
        assert torch.equal(shown["peer"][idle], torch.arange(6).view(1, 6, 1).expand(2, -1, -1)[idle])
        own, seen = shown["time"], seen + int(idle.sum())
    assert seen > 20


def test_the_future_does_not_show() -> None:
    """Other events after those that are asked for now: the answers until then are the same."""
    core = CORES["quadratic"]
    state = core.reset(KEYS)
    x = core.sample(KEYS).start["recommendation"]  # type: ignore[index]
    for _ in range(12):
        state = core.step(state, act(core, x))
        x = moved(x, state.observation)
    traffic = state.hidden.traffic
    agenda, places = traffic.agenda, traffic.places
    upcoming = torch.zeros_like(agenda.entry[..., 3], dtype=torch.bool)
    for row in range(2):
        for node in range(6):
            start = int(agenda.first[row, node])
            stop = int(agenda.first[row, node + 1]) if node < 5 else upcoming.shape[1]
            upcoming[row, start + int(places.behind[row, node]) : stop] = True
    entry = agenda.entry.clone()
    entry[..., 3] += torch.where(upcoming, 100.0, 0.0)  # the times of all that is not yet asked for
    changed = replace(traffic, agenda=replace(agenda, entry=entry))
    other = replace(state, hidden=replace(state.hidden, traffic=changed))
    idle = state.observation["event"] == 0
    assert idle.any()
    one, other = core.step(state, act(core, x)), core.step(other, act(core, x))
    for name in ("answered", "gradient", "message", "point"):
        assert torch.equal(one.observation[name], other.observation[name])
    still = (one.observation["event"] == 0) & (other.observation["event"] == 0)
    assert still.any()
    for name in ("time", "elapsed", "peer"):
        assert torch.equal(one.observation[name][still], other.observation[name][still])


def test_rows_of_nodes_that_are_not_asked_are_ignored() -> None:
    core = NetworkQuadratic(nodes=6, t_max=6.0, metric="stale")
    state = core.reset(KEYS)
    x = core.sample(KEYS).start["recommendation"]  # type: ignore[index]
    ignored = 0
    while not state.truncated.any():
        action = act(core, x)
        quiet = ~(core.asked(state) | core.answered(state))
        ignored += int(quiet.sum())
        changed = {
            name: torch.where(quiet.view(2, 6, *[1] * (value.ndim - 2)), 7.0, value)
            for name, value in action.items()
        }
        one, other = core.step(state, action), core.step(state, changed)
        for path, value in tensors(one).items():
            if path != "observation.point":
                assert torch.equal(value, tensors(other)[path]), path
        state, x = one, moved(x, one.observation)
    assert ignored > 20

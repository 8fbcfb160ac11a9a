"""A node by itself: its data and no other's, its events, its oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import tensors
from optenvs.envs.network.events import EXCHANGE, GRADIENT

KEYS = keys_from_seed(5, 1)
CORES: dict[str, dict[str, Any]] = {
    "NetworkQuadratic": {"noise": 0.1},
    "NetworkLinear": {"samples": 8, "batch_size": 3},
    "NetworkLogistic": {"data": "breast_cancer", "batch_size": 4},
    "NetworkDigits": {"widths": (3,), "samples": 50, "batch_size": 4},
}


def made(name: str, **keywords: Any) -> Any:
    return optenvs.make(name, nodes=4, t_max=9.0, **(CORES[name] | keywords))


@pytest.mark.parametrize("name", CORES)
def test_it_holds_no_other_nodes_data(name: str) -> None:
    core = made(name)
    whole = core.sample(KEYS).hidden.functions.data
    for index in range(4):
        node = core.node(KEYS, index)
        own = tensors(node.data)
        assert own and set(own) | set(core.truths) == set(tensors(whole))
        for path, value in own.items():
            assert value.shape[:2] == (1, 1)
            assert torch.equal(value[:, 0], tensors(whole)[path][:, index])
        everything = {**own, "start": node.start, "agenda": node.agenda}
        for path, value in everything.items():  # a copy, and no view of the whole
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size(), path


@pytest.mark.parametrize("name", CORES)
def test_its_gradients_are_those_of_the_episode(name: str) -> None:
    core = made(name, order="sequential")
    nodes = [core.node(KEYS, index) for index in range(4)]
    state, seen = core.reset(KEYS), 0
    while not bool(state.done):
        event = state.observation["event"][0, :, 0]
        computed = state.hidden.computed[0]
        point = state.observation["point"] + 0.1
        action = {"query": point, "message": point.unsqueeze(2), "recommendation": point}
        state = core.step(state, action)
        for index in (event == GRADIENT).nonzero().flatten().tolist():
            answer = nodes[index].gradient(point[:, index : index + 1], int(computed[index]))
            assert torch.allclose(
                answer[0, 0], state.observation["gradient"][0, index], rtol=1e-12, atol=1e-14
            )
            seen += 1
    assert seen > 15


@pytest.mark.parametrize("clock", ["poisson", "edges"])
def test_its_events_are_those_of_the_episode(clock: str) -> None:
    core = optenvs.make("NetworkQuadratic", nodes=4, t_max=9.0, order="sequential", clock=clock)
    state, expected = core.reset(KEYS), {index: [] for index in range(4)}
    kinds = {GRADIENT: "gradient", EXCHANGE: "message"}
    while not bool(state.done):
        for index, (kind, peer, time) in enumerate(
            torch.cat([state.observation[n][0] for n in ("event", "peer", "time")], -1).tolist()
        ):
            if kind:
                expected[index].append((kinds.get(int(kind), "report"), int(peer), time))
        start = core.sample(KEYS).start
        state = core.step(state, start)
    for index in range(4):
        events = core.node(KEYS, index).events()
        assert [(event.kind, event.peer, event.time) for event in events] == expected[index]


def test_its_rates_are_those_of_its_edges() -> None:
    core = optenvs.make("NetworkQuadratic", nodes=4, graph="path", rates=[2.0, 3.0, 4.0])
    rates = [core.node(KEYS, index).rates for index in range(4)]
    assert rates == [{1: 2.0}, {0: 2.0, 2: 3.0}, {1: 3.0, 3: 4.0}, {2: 4.0}]


def test_what_is_no_node_is_refused() -> None:
    core = made("NetworkQuadratic")
    with pytest.raises(ValueError, match=r"index: expected a node of 0 \.\. 3, got 4"):
        core.node(KEYS, 4)
    with pytest.raises(ValueError, match="keys: expected one instance, got 2"):
        core.node(keys_from_seed(0, 2), 0)
    with pytest.raises(TypeError, match="not in rounds"):
        core.replace(clock="rounds").node(KEYS, 0)
    with pytest.raises(TypeError, match="cannot run in processes of their own"):
        optenvs.make("Particles", landscape="Ackley").node(KEYS, 0)

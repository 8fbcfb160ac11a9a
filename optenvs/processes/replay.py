"""Replay: the processes play the seeded episode of the tensor environment, each its own events in order.

Nobody orders the others: both ends of an exchange know from the list when it is their turn, send, and wait.
The earliest event that is not over always has its ends ready, so that no circle of waiting can arise. The
result is that of :func:`optenvs.rollout`, to rounding.
"""

from __future__ import annotations

from queue import Queue

import torch
from torch import Tensor

from optenvs.core.nodes import Event
from optenvs.core.random import fold_in
from optenvs.core.rollout import agent_keys

from .record import Seat
from .watch import Watch
from .wire import MESSAGE, Wire


def replay(seat: Seat, wire: Wire, watch: Watch, events: list[Event]) -> None:
    """Play all events of this node."""
    node, agent = seat.node, seat.agent
    peers = {event.peer for event in events if event.kind == "message"}
    like = torch.empty(node.start.shape[-1] * node.channels, dtype=node.start.dtype)
    heard = {peer: wire.listen(peer, MESSAGE, like) for peer in sorted(peers)}
    observation = node.observation(node.start, *_coming(events, 0, 0.0))
    seat.state = agent.init(node.problem, observation, fold_in(agent_keys(node.key), node.index))
    seat.iterate = node.start
    seat.log()
    for place, event in enumerate(events):
        watch.doing("work", f"at its event {place}")
        action, seat.state = agent.act(seat.state, observation)
        seat.iterate, seat.time = action["recommendation"], event.time
        answer = None
        if event.kind == "gradient":
            watch.doing("gradient", f"computing its gradient {seat.gradients + 1}")
            answer = node.gradient(action["query"], seat.gradients)
            seat.gradients += 1
        elif event.kind == "message":
            what = f"exchange {seat.exchanges + 1}"
            answer = swap(wire, watch, event.peer, action["message"], heard[event.peer], what)
            seat.exchanges += 1
        else:
            seat.log()
        watch.check()
        coming = _coming(events, place + 1, event.time)
        observation = node.observation(action["query"], *coming, answered=event, answer=answer)


def _coming(events: list[Event], place: int, before: float) -> tuple[Event | None, float]:
    if place == len(events):
        return None, 0.0
    return events[place], events[place].time - before


def swap(
    wire: Wire, watch: Watch, peer: int, said: Tensor, heard: Queue[Tensor], what: str, thread: str = ""
) -> Tensor:
    """Send a neighbour this node's message, and wait for its own."""
    wire.send(peer, MESSAGE, said.flatten())
    watch.doing("waiting", f"waiting for the message of node {peer} (its {what})", thread)
    return watch.wait(heard).to(said.device).view_as(said)

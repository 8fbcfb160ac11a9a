"""A run by the clock: counts, matching, the unit of time."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.random import fold_in, keys_from_seed
from optenvs.processes.clock import poisson
from optenvs.processes.partners import FREE, GO, NEXT, STOP, Coordinator
from optenvs.processes.watch import Over

KEYS = keys_from_seed(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "lead"), [("dadao", 2), ("a2cid2", None)])
def test_it_converges_and_counts(agent: str, lead: int | None) -> None:
    core = optenvs.make("NetworkQuadratic", nodes=4, graph="star", L=3.0)
    options = {"mode": "wall_clock", "gradients": 400, "lead": lead, "timeout": 60.0}
    runs = optenvs.spawn_processes(core, agents.make(agent), start_method="forkserver", **options)
    record = runs[0].record
    assert record is not None
    assert 400 <= int(record.calls["gradient"][-1]) < 404, "each node completes what it has begun, at most"
    assert torch.equal(record.calls["gradient"], record.gradients.sum(-1))
    assert int(record.exchanges[-1, 0]) == int(record.exchanges[-1, 1:].sum()), "all edges lead to node 0"
    assert int(record.calls["exchange"][-1]) == int(record.exchanges[-1, 0])
    assert (record.seconds.diff() > 0).all()
    assert (record.gradients.diff(dim=0) >= 0).all()
    for rank, run in enumerate(runs):  # as many exchanges between two gradients as were drawn
        node = core.node(KEYS, rank)
        rate, key = sum(node.rates.values()), fold_in(KEYS, rank)
        drawn = [poisson(key, rate, number) for number in range(run.gradients)]
        assert sum(drawn[:-1]) <= run.exchanges
        assert lead is not None or run.exchanges <= sum(drawn)
    if lead is not None:
        assert int(record.gradients[-1].max() - record.gradients[-1].min()) <= lead + 1
    error = record.metrics["error"]
    start = torch.cat([core.node(KEYS, rank).start[0] for rank in range(4)])
    assert torch.allclose(record.published[0], start.mean(0).expand(4, -1), atol=1e-14)
    assert float(error[-1]) < 0.2 * float(error[0])
    mean = torch.stack([run.iterate for run in runs]).mean(0)
    assert all(torch.allclose(run.mean, mean, atol=1e-14) for run in runs)


def test_the_number_of_exchanges_is_poisson() -> None:
    drawn = torch.tensor([poisson(KEYS, 2.5, number) for number in range(4000)], dtype=torch.float64)
    assert float(drawn.mean()) == pytest.approx(2.5, abs=4 * math.sqrt(2.5 / 4000))
    assert float(drawn.var()) == pytest.approx(2.5, rel=0.1)
    assert float((drawn == 0).double().mean()) == pytest.approx(math.exp(-2.5), abs=0.02)
    assert poisson(KEYS, 0.0, 0) == 0


class Ends:
    """The wire and the watch of a coordinator whose nodes are this list of signals."""

    size = 4
    rank = 0

    def __init__(self, signals: list[tuple[int, int, int]]) -> None:
        self.signals = [(rank, torch.tensor([what, count])) for rank, what, count in signals]
        self.said: list[tuple[int, int]] = []

    def listen(self, *_: Any, **__: Any) -> None: ...

    def wait(self, _: Any) -> Any:
        if not self.signals:
            raise Over
        return self.signals.pop(0)

    def send(self, rank: int, _: int, answer: torch.Tensor) -> None:
        self.said.append((rank, int(answer)))

    def answers(
        self, rates: list[dict[int, float]], target: int, lead: int | None = None
    ) -> tuple[list[tuple[int, int]], list[int], bool]:
        coordinator = Coordinator(self, self, rates, target, lead, KEYS)  # type: ignore[arg-type]
        try:
            coordinator.run()
            ended = True
        except Over:
            ended = False
        own = [int(coordinator.own_reply.get()) for _ in range(coordinator.own_reply.qsize())]
        return self.said, own, ended


PATH = [{1: 1.0}, {0: 1.0, 2: 1.0}, {1: 1.0, 3: 1.0}, {2: 1.0}]


def test_neighbours_are_paired_in_the_order_of_asking() -> None:
    ends = Ends([(0, FREE, 0), (3, FREE, 0), (2, FREE, 0), (1, FREE, 0), (2, NEXT, 1)])
    said, own, ended = ends.answers(PATH, 100)
    # 0 and 3 are no neighbours; 2 finds 3 waiting; 1 finds 0
    assert said == [(3, 2), (2, 3), (1, 0), (2, GO)]
    assert own == [1]
    assert not ended


def test_the_run_ends_for_those_who_wait_and_for_those_who_come() -> None:
    signals = [(0, FREE, 3), (3, FREE, 2), (2, NEXT, 5), (1, FREE, 0)]
    said, own, ended = Ends(signals).answers(PATH, 10)
    assert said == [(3, STOP), (2, STOP), (1, STOP)]
    assert own == [STOP]
    assert ended


def test_a_node_ahead_waits_and_exchanges_meanwhile() -> None:
    signals = [
        (3, NEXT, 1),
        (3, NEXT, 2),
        (2, FREE, 0),
        (3, NEXT, 2),
        (2, NEXT, 1),
        (1, NEXT, 1),
        (0, NEXT, 1),
    ]
    said, own, ended = Ends(signals).answers(PATH, 100, lead=2)
    # at 2 gradients node 3 is kept, and given to 2; it goes on when all others have 1
    assert said == [(3, GO), (2, 3), (3, 2), (2, GO), (1, GO), (3, GO)]
    assert own == [GO]
    assert not ended


def test_partners_are_drawn_by_the_rates_of_the_edges() -> None:
    star = [{1: 1.0, 2: 2.0, 3: 5.0}, {0: 1.0}, {0: 2.0}, {0: 5.0}]
    coordinator = Coordinator(Ends([]), Ends([]), star, 1, None, KEYS)  # type: ignore[arg-type]
    coordinator._free = [0, 3, 2, 1]
    drawn = Counter(coordinator._pair() for _ in range(4000))
    for partner, rate in star[0].items():
        assert drawn[0, partner] / 4000 == pytest.approx(rate / 8, abs=0.03)
    coordinator._free = [3, 0]
    assert coordinator._pair() == (3, 0)
    coordinator._free = [1, 2, 3]
    assert coordinator._pair() is None

"""Events of asynchronous networks: their law, and waves against a sequential replay of the same draws."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from network_gossip import episode
from scipy import stats

from optenvs.core.random import integers, keys_from_seed, uniform
from optenvs.envs.network.events import EXCHANGE, GRADIENT, IDLE, REPORT, Clocks, Places, Wave
from optenvs.envs.network.graphs import make_network
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.envs.network.rates import EdgeRates, edge_rates


class Event(NamedTuple):
    """One event of one network; the two ends are one node where it computes, None in a report."""

    time: float
    kind: int
    ends: tuple[int, int] | None


def clocks(
    graph: Any = "cycle",
    nodes: int = 5,
    rates: Any = "uniform",
    t_max: float = 10.0,
    every: float = 1.0,
    **keywords: Any,
) -> Clocks:
    graphs = make_network(graph, nodes)
    given = edge_rates(graphs, rates) if isinstance(rates, str) else EdgeRates(graphs, rates)
    reports = (*(every * (i + 1) for i in range(math.ceil(t_max / every) - 1)), t_max)
    return Clocks(nodes, given, t_max, reports, **keywords)


def waves(drawn: Clocks, batch: int = 1, seed: int = 0) -> list[Wave]:
    """All waves until nobody has an event left."""
    keys = keys_from_seed(seed, batch)
    agenda, places = drawn.draw(keys), Places.beginning(batch, drawn.nodes, keys.device)
    found: list[Wave] = []
    while len(found) <= drawn.longest:
        wave, places = drawn.wave(agenda, places)
        if not wave.kind.any():
            return found
        found.append(wave)
    raise AssertionError(f"more than {drawn.longest} waves")


def events(found: list[Wave], row: int = 0) -> list[Event]:
    """The events of one network, wave by wave; checks that both ends of an exchange are in one wave."""
    listed = []
    for wave in found:
        kind, peer, time = (field[row].tolist() for field in (wave.kind, wave.peer, wave.time))
        if REPORT in kind:
            assert set(kind) == {REPORT}
            assert len(set(time)) == 1
            listed.append(Event(time[0], REPORT, None))
            continue
        for node, what in enumerate(kind):
            if what == GRADIENT:
                assert peer[node] == node
                listed.append(Event(time[node], GRADIENT, (node, node)))
            elif what == EXCHANGE:
                other = peer[node]
                assert other != node
                assert (peer[other], kind[other], time[other]) == (node, EXCHANGE, time[node])
                if node < other:
                    listed.append(Event(time[node], EXCHANGE, (node, other)))
    return listed


def replay(drawn: Clocks, seed: int, row: int) -> list[Event]:
    """The same draws, one after the other, in plain Python."""
    key, count = keys_from_seed(seed, row + 1)[row:], drawn.capacity
    double = {"dtype": torch.float64}
    steps = uniform(key, "waiting times", count, **double)[0]
    # torch's sum, because the last bit of a sum depends on the order of its terms
    times = (-torch.log1p(-steps) / drawn.speed).cumsum(-1).tolist()
    edge = uniform(key, "edges", count, **double)[0].tolist()
    kind = uniform(key, "kinds", count, **double)[0].tolist()
    node = integers(key, "nodes", count, drawn.nodes)[0].tolist()
    rates, listed, due = drawn.rates, [], list(drawn.reports)
    for i, time in enumerate(times):
        while due and due[0] < time:
            listed.append(Event(due.pop(0), REPORT, None))
        if time > drawn.t_max:
            return listed
        if drawn.clock == "poisson" and kind[i] * drawn.speed < drawn.nodes:
            listed.append(Event(time, GRADIENT, (node[i], node[i])))
            continue
        turn = math.floor(time * rates.switch_rate) % len(rates.graphs)
        sums = np.cumsum(rates.rates[turn]) / rates.rates[turn].sum()
        one, other = rates.graphs[turn].edges[bisect_right(sums.tolist(), edge[i])]
        if drawn.clock == "edges":
            listed += [Event(time, GRADIENT, (end, end)) for end in (one, other)]
        listed.append(Event(time, EXCHANGE, (one, other)))
    raise AssertionError("the clocks stop before the episode ends")


CASES: dict[str, Clocks] = {
    "cycle": clocks(),
    "star": clocks("star", 9, t_max=6.5, every=2.0),
    "given rates": clocks("path", 4, (np.array([0.5, 2.0, 7.0]),)),
    "edges": clocks("complete", 6, clock="edges"),
    "taking turns": clocks(["star", "cycle", "path"], 6),
    "two nodes": clocks("path", 2),
    "one node": clocks("path", 1),
    "often reported": clocks("cycle", 5, t_max=3.0, every=0.01),
}


@pytest.mark.parametrize("name", CASES)
def test_waves_are_the_sequential_events(name: str) -> None:
    """Nothing lost, doubled or moved, and every node meets its own events in their order."""
    drawn = CASES[name]
    found = waves(drawn, batch=3, seed=7)
    for row in range(3):
        expected, seen = replay(drawn, 7, row), events(found, row)
        assert Counter(seen) == Counter(expected)
        assert len(expected) > len(drawn.reports)
        for node in range(drawn.nodes):
            assert [e for e in seen if e.ends is None or node in e.ends] == [
                e for e in expected if e.ends is None or node in e.ends
            ]


@pytest.mark.parametrize("name", CASES)
def test_one_event_a_step_is_the_order_of_time(name: str) -> None:
    drawn = CASES[name]
    single = Clocks(drawn.nodes, drawn.rates, drawn.t_max, drawn.reports, clock=drawn.clock, sequential=True)
    assert events(waves(single, seed=7)) == replay(drawn, 7, 0)


def test_waves_are_fewer_than_events() -> None:
    drawn = CASES["cycle"]
    assert len(waves(drawn, seed=7)) < 0.7 * len(replay(drawn, 7, 0))


def test_elapsed_is_the_time_since_a_nodes_own_last_event() -> None:
    for drawn in CASES.values():
        last = torch.zeros(2, drawn.nodes, dtype=torch.float64)
        for wave in waves(drawn, batch=2):
            assert torch.equal(wave.elapsed, wave.time - last)
            assert (wave.elapsed >= 0).all()
            idle = wave.kind == IDLE
            assert torch.equal(wave.time[idle], last[idle]), "an idle node learns when others act"
            assert torch.equal(wave.peer[idle], torch.arange(drawn.nodes).expand(2, -1)[idle])
            last = wave.time


def counts(found: list[Wave], drawn: Clocks) -> tuple[np.ndarray, dict[tuple[int, int], int]]:
    """Gradients by network and node ``(B, N)``, and exchanges by edge."""
    kind = torch.stack([wave.kind for wave in found])
    peer = torch.stack([wave.peer for wave in found])
    edges: dict[tuple[int, int], int] = defaultdict(int)
    node = torch.arange(drawn.nodes).expand_as(kind)
    first = (kind == EXCHANGE) & (node < peer)
    for pair in zip(node[first].tolist(), peer[first].tolist(), strict=True):
        edges[pair] += 1
    return (kind == GRADIENT).sum(0).numpy(), dict(edges)


def chi_square(seen: Any, expected: Any) -> float:
    """The chance of counts of Poisson variables at least as far from their means."""
    seen, expected = np.asarray(seen, float), np.asarray(expected, float)
    return float(stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), len(seen)))


def test_nodes_compute_at_rate_one_and_edges_exchange_at_theirs() -> None:
    rates = np.array([0.5, 1.0, 2.0, 4.0, 0.25])
    drawn, batch = clocks("cycle", 5, (rates,), t_max=20.0, every=20.0), 300
    gradients, exchanges = counts(waves(drawn, batch), drawn)
    assert chi_square(gradients.sum(0), [20.0 * batch] * 5) > 1e-3
    edges = make_network("cycle", 5)[0].edges
    assert exchanges.keys() == set(edges)
    assert chi_square([exchanges[edge] for edge in edges], 20.0 * batch * rates) > 1e-3
    # counts of one node in one episode are Poisson: their variance is their mean
    spread = ((gradients - 20.0) ** 2 / 20.0).sum()
    assert 1e-3 < stats.chi2.sf(spread, gradients.size) < 1 - 1e-3


@pytest.mark.parametrize(("kind", "rate"), [(GRADIENT, 1.0), (EXCHANGE, 3.0)])
def test_waiting_times_are_exponential(kind: int, rate: float) -> None:
    drawn = clocks("path", 3, (np.array([3.0, 1.0]),), t_max=600.0, every=600.0)
    ends = (0, 0) if kind == GRADIENT else (0, 1)
    times = [event.time for event in events(waves(drawn)) if event[1:] == (kind, ends)]
    gaps = np.diff(times, prepend=0.0)
    assert len(gaps) > 500
    assert stats.kstest(gaps, stats.expon(scale=1 / rate).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / math.sqrt(len(gaps))


def test_clocks_are_independent() -> None:
    drawn, batch = clocks("path", 2, (np.array([1.0]),), t_max=5.0, every=5.0), 2000
    found = waves(drawn, batch)
    gradients, _ = counts(found, drawn)
    exchanges = sum((wave.kind[:, 0] == EXCHANGE).numpy().astype(int) for wave in found)
    table = np.corrcoef(np.stack([*gradients.T, exchanges]))
    assert np.abs(table - np.eye(3)).max() < 4 / math.sqrt(batch)


def test_rates_scale_with_the_edges_clock_alone() -> None:
    rates = np.array([0.2, 0.3, 0.5])
    drawn, batch = clocks("path", 4, (rates,), t_max=50.0, every=50.0, clock="edges"), 100
    gradients, exchanges = counts(waves(drawn, batch), drawn)
    edges = make_network("path", 4)[0].edges
    assert chi_square([exchanges[edge] for edge in edges], 50.0 * batch * rates) > 1e-3
    degree = [sum(n for edge, n in exchanges.items() if node in edge) for node in range(4)]
    assert gradients.sum(0).tolist() == degree, "both ends compute for every exchange"


def test_both_ends_compute_just_before_they_exchange() -> None:
    own: dict[int, tuple[int, float]] = {}
    for wave in waves(CASES["edges"]):
        for node, kind in enumerate(wave.kind[0].tolist()):
            time = float(wave.time[0, node])
            if kind == EXCHANGE:
                assert own[node] == (GRADIENT, time)
            if kind:
                own[node] = (kind, time)


def test_only_edges_of_the_graph_whose_turn_it_is_exchange() -> None:
    one, other = [(0, 1), (1, 2), (2, 3)], [(0, 2), (0, 3), (1, 3)]
    drawn = clocks([one, other, one], 4, t_max=30.0)
    rate, seen = drawn.rates.switch_rate, [0, 0]
    for event in events(waves(drawn, seed=3)):
        if event.kind == EXCHANGE:
            turn = math.floor(event.time * rate) % 3
            assert event.ends in (other if turn == 1 else one)
            seen[turn == 1] += 1
    assert min(seen) > 30
    assert seen[0] / seen[1] == pytest.approx(2, rel=0.4)


def test_everybody_is_in_every_report_at_its_time() -> None:
    drawn = clocks("star", 6, t_max=4.5, every=0.5)
    last = torch.zeros(2, 6, dtype=torch.float64)
    reported: list[list[float]] = [[], []]
    for wave in waves(drawn, batch=2):
        for row in range(2):
            if REPORT in wave.kind[row]:
                assert (wave.kind[row] == REPORT).all()
                assert (wave.time[row] == wave.time[row, 0]).all()
                reported[row].append(float(wave.time[row, 0]))
            elif reported[row]:
                busy = wave.kind[row] > 0
                assert (wave.time[row][busy] > reported[row][-1]).all(), "an event before a report comes late"
        assert (wave.time >= last).all()
        last = wave.time
    assert reported == [list(drawn.reports)] * 2


def test_reports_of_one_time_are_one() -> None:
    assert 0.7 * 3 < 2.1
    reports = NetworkQuadratic(t_max=2.1, report_every=0.7).traffic.clocks.reports  # type: ignore[union-attr]
    assert reports == (0.7, 1.4, 2.1)
    assert NetworkQuadratic(t_max=1.0, report_every=5.0).traffic.clocks.reports == (1.0,)  # type: ignore[union-attr]


def test_nothing_happens_in_no_time() -> None:
    core = NetworkQuadratic(nodes=4, t_max=1e-9)
    states, _ = episode(core)
    assert len(states) == 2, "a first query, and the report at the end"
    assert states[-1].truncated.all()
    assert int(states[-1].calls["gradient"].sum() + states[-1].calls["exchange"].sum()) == 0
    assert torch.equal(states[-1].merit, states[0].merit)


def test_the_capacity_is_never_reached() -> None:
    """Eight standard deviations: the firings drawn outlast the episode in every one of 20,000."""
    for t_max in (0.01, 1.0, 30.0):
        drawn = clocks("path", 3, t_max=t_max)
        steps = uniform(keys_from_seed(0, 20_000), "waiting times", drawn.capacity, dtype=torch.float64)
        total = -torch.log1p(-steps).sum(-1) / drawn.speed
        assert total.min() > t_max * 1.05
    mean = clocks("cycle", 10, t_max=200.0)
    assert mean.capacity < 1.2 * mean.speed * 200.0


KINDS = {
    "poisson": {},
    "reports between": {"report_every": 0.3},
    "edges": {"clock": "edges", "t_max": 12.0},
    "stale": {"metric": "stale"},
    "taking turns": {"graph": ["star", "cycle"]},
    "one node": {"nodes": 1, "graph": "path"},
    "two nodes": {"nodes": 2, "graph": "path"},
    "noisy": {"noise": 1.0},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_method_ends_where_it_ends_sequentially(name: str) -> None:
    """Bit for bit: iterates, metrics at every report, and the bill."""
    core = NetworkQuadratic(**({"nodes": 6, "t_max": 6.0} | KINDS[name]))
    wave, single = episode(core), episode(core.event_by_event())  # type: ignore[arg-type]
    assert torch.equal(wave[1], single[1])
    for kind in core.bill:
        assert torch.equal(wave[0][-1].calls[kind], single[0][-1].calls[kind])
    for metric, value in wave[0][-1].metrics.items():
        assert torch.equal(value, single[0][-1].metrics[metric]), metric
    if core.metric == "synced":
        for row in range(3):
            one, other = (
                list(dict.fromkeys((float(s.metrics["time"][row]), float(s.merit[row])) for s in states))
                for states in (wave[0], single[0])
            )
            assert one == other
            assert [time for time, _ in one[1:]] == list(core.traffic.clocks.reports)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", KINDS)
def test_the_bill_is_that_of_the_events(name: str) -> None:
    core = NetworkQuadratic(**({"nodes": 6, "t_max": 6.0} | KINDS[name]))
    states, _ = episode(core, seed=5)
    found = waves(core.traffic.clocks, batch=3, seed=5)  # type: ignore[union-attr]
    for row in range(3):
        listed = events(found, row)
        for kind, number in (("gradient", GRADIENT), ("exchange", EXCHANGE)):
            assert int(states[-1].calls[kind][row]) == sum(event.kind == number for event in listed)


def test_single_precision_meets_the_same_events() -> None:
    double = NetworkQuadratic(nodes=5, t_max=8.0)
    pair = [episode(core, seed=2)[0] for core in (double, double.replace(dtype="float32"))]  # type: ignore[arg-type]
    assert len(pair[0]) == len(pair[1])
    for one, other in zip(*pair, strict=True):
        for name in ("event", "peer", "answered"):
            assert torch.equal(one.observation[name], other.observation[name])
        assert other.observation["time"].dtype == torch.float32
        assert torch.allclose(one.observation["time"].float(), other.observation["time"])

"""How the nodes of a network are joined, and what happens when: the keywords of graph, clocks and reports."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from optenvs.core.given import check_whole
from optenvs.core.multi import MultiAgentEnv

from .events import CLOCKS, Clocks, given_events
from .graphs import Graph, make_network
from .parts import refuse_changed
from .rates import EdgeRates, edge_rates, equal_rates
from .traffic import Asynchronous, Synchronous
from .verdict import CHECKS, Judged, check_rates


@dataclass(frozen=True, eq=False, kw_only=True)
class Wiring(MultiAgentEnv):
    """Nodes on a graph, and their clocks.

    Args:
        nodes: the number n of nodes; ``None`` for that of a graph which is given, and for a family's name for
            10 (``NetworkDigits``: 4).
        graph: a family's name, edges, a ``networkx`` graph, or a list of graphs that take turns; see
            :func:`optenvs.envs.network.graphs.make_network`.
        graph_options: of a random family: ``radius``, ``seed``, ``count``.
        rates: exchanges an edge in a unit of time: ``uniform`` (the default: the least total at which equal
            rates satisfy chi_1 chi_2 <= 1/2), ``optimal`` (the least total; extra ``sdp``), a total, or
            one an edge, in the order in which the edges were given; see
            :func:`optenvs.envs.network.rates.edge_rates`. With ``clock="edges"`` a total of 1.
        rates_check: ``refuse`` given rates at which DADAO diverges with this problem's mu and L (of random
            functions those of seed 0), ``warn`` (for other methods), or ``off``.
        clock: ``poisson`` (asynchronous: nodes compute at rate 1, edges exchange at their rates), ``edges``
            (asynchronous: both ends of an edge compute just before they exchange), or ``rounds``
            (synchronous: all nodes compute and gossip together, as they choose).
        t_max: the length of an episode in units of time, in which a node computes once on average.
        report_every: time between two reports, at which all nodes publish their iterates of that very time.
        metric: ``synced``: the merit is that of the last report; ``stale``: that of the iterates as last
            published, and there is one report, at the end.
        order: ``wavefront``: a step serves all events that touch different nodes and whose turn it is, which
            gives exactly what their order in time gives; ``sequential``: one event a step.
        channels: vectors in a message: 1, and 2 in rounds, where some methods send two.
        events: what happens, and when, in place of random clocks: ``(time, i)`` for a gradient of node i and
            ``(time, i, j)`` for an exchange of its neighbours, in order of time. With ``clock="edges"`` there
            are exchanges only.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    nodes: int | None = None
    graph: Any = "cycle"
    graph_options: Mapping[str, Any] = field(default_factory=dict)
    rates: Any = None
    rates_check: str = "refuse"
    clock: str = "poisson"
    t_max: float = 100.0
    report_every: float = 1.0
    metric: str = "synced"
    order: str = "wavefront"
    channels: int | None = None
    events: Sequence[Sequence[float]] | None = None

    agent_name = "node"
    default_nodes: ClassVar[int] = 10
    """How many nodes a graph has that is given by the name of a family alone."""

    @property
    @abc.abstractmethod
    def judged(self) -> Judged:
        """The functions for which given rates are judged."""

    def __post_init__(self) -> None:
        for name, known in (
            ("clock", (*CLOCKS, "rounds")),
            ("rates_check", CHECKS),
            ("metric", ("synced", "stale")),
            ("order", ("wavefront", "sequential")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("t_max", "report_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)!r}")
        if self.channels is not None:
            check_whole("channels", self.channels)
        if self.clock == "rounds":
            unused = ("report_every", "metric", "order", "events")
            refuse_changed(self, unused, "clock='rounds' reports in every round")
        if self.metric == "stale":
            refuse_changed(self, ("report_every",), "metric='stale' reports once, at the end")
        _ = self.traffic, self.edge_rates  # what does not fit is an error now, not at the first reset
        super().__post_init__()

    @cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs of the network, which take turns."""
        named = [self.graph] if isinstance(self.graph, str) else self.graph
        family = isinstance(named, list | tuple) and any(isinstance(part, str) for part in named)
        nodes = self.default_nodes if self.nodes is None and family else self.nodes
        return make_network(self.graph, nodes, **self.graph_options)

    @property
    def agents(self) -> int:
        return self.graphs[0].nodes

    @cached_property
    def edge_rates(self) -> EdgeRates:
        """The Poisson rates of the edges."""
        if self.clock == "edges" and self.rates is None:
            return EdgeRates(self.graphs, equal_rates(self.graphs, 1.0))
        given = "uniform" if self.rates is None else self.rates
        made = edge_rates(self.graphs, given, check="off")
        if self.rates_check != "off" and not isinstance(given, str) and made.chi1 * made.chi2 > 0.5:
            check_rates(made.graphs, made.rates, made.chi1 * made.chi2, self.judged, self.rates_check)
        return made

    @cached_property
    def traffic(self) -> Asynchronous | Synchronous:
        """How the nodes communicate."""
        if self.clock == "rounds":
            return Synchronous(
                self.graphs, self.t_max, self.channels or 2, self.torch_device, self.torch_dtype
            )
        count = 0 if self.metric == "stale" else math.ceil(self.t_max / self.report_every) - 1
        times = [self.report_every * (i + 1) for i in range(count)]
        last = (1 - 1e-9) * self.t_max  # 0.7 * 3 is below 2.1, and no report of its own
        reports = (*(time for time in times if time < last), float(self.t_max))
        sequential = self.order == "sequential"
        given = None if self.events is None else given_events(self.events, self.graphs, self.clock)
        clocks = Clocks(self.agents, self.edge_rates, self.t_max, reports, self.clock, sequential, given)
        return Asynchronous(clocks, self.channels or 1)

    def event_by_event(self) -> Wiring:
        return self if self.clock == "rounds" else self.replace(order="sequential")  # type: ignore[return-value]

    @property
    def common(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.traffic.common

    @property
    def announcement(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.traffic.announcement

    @property
    def reply(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.traffic.reply

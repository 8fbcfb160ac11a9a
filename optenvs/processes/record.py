"""What a run leaves behind: each node's own log, and at node 0 the record of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.ledger import Ledger
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.nodes import Node
from optenvs.core.random import Keys
from optenvs.core.snapshot import save
from optenvs.core.struct import struct


@struct
class Record:
    """The run, at ``R`` times: the start, and the reports.

    Attributes:
        time: in units in which a node computes once on average, ``(R,)``.
        seconds: since the start, ``(R,)``; of the node that came last.
        metrics: of the nodes' iterates at these times, by name, ``(R,)`` each.
        calls: gradients, and exchanges of an edge; ``record.calls["exchange"]`` has shape ``(R,)``.
        gradients, exchanges: of each node, ``(R, N)``; an exchange has two ends, and counts at both.
        published: the iterates, ``(R, N, d)``.
    """

    time: Float[Tensor, "R"]
    seconds: Float[Tensor, "R"]
    metrics: dict[str, Tensor]
    calls: Ledger
    gradients: Int64[Tensor, "R N"]
    exchanges: Int64[Tensor, "R N"]
    published: Float[Tensor, "R N d"]


@struct
class ProcessRun:
    """What :func:`optenvs.run_processes` returns in the process of one node.

    Attributes:
        rank: which node.
        iterate: its last iterate, ``(d,)``.
        mean: the mean of those of all nodes, ``(d,)``.
        gradients, exchanges: what it has computed and exchanged.
        agent_state: its agent's memory.
        record: the run of all nodes, at node 0; elsewhere ``None``.
    """

    rank: int
    iterate: Float[Tensor, "d"]
    mean: Float[Tensor, "d"]
    gradients: int
    exchanges: int
    agent_state: Any
    record: Record | None


@dataclass(frozen=True)
class Report:
    """Where a node is, for a progress bar.

    Attributes:
        rank: which node.
        time: in units in which a node computes once on average.
        gradients, exchanges: what it has computed and exchanged.
        seconds: since the start.
    """

    rank: int
    time: float
    gradients: int
    exchanges: int
    seconds: float


@dataclass
class Seat:
    """One node with its agent: the last state of both is always whole, so that any thread can save it.

    Attributes:
        node: the node.
        agent: what decides.
        on_report: called with every :class:`Report` of this node.
    """

    node: Node
    agent: Any
    on_report: Callable[[Report], None] | None = None
    state: Any = None
    iterate: Tensor | None = None
    gradients: int = 0
    exchanges: int = 0
    time: float = 0.0
    rows: list[Tensor] = field(default_factory=list)
    began: float = field(default_factory=monotonic)

    def log(self) -> None:
        """Note the iterate of now."""
        assert self.iterate is not None
        report = Report(self.node.index, self.time, self.gradients, self.exchanges, monotonic() - self.began)
        facts = torch.tensor(
            [report.time, report.seconds, report.gradients, report.exchanges], dtype=torch.float64
        )
        self.rows.append(torch.cat((facts, self.iterate.detach().cpu().double().flatten())))
        if self.on_report is not None and len(self.rows) > 1:
            self.on_report(report)

    def save(self, folder: Path | None, doing: str) -> Path | None:
        """Write the last state, whole or not at all; :func:`optenvs.load` reads it."""
        if folder is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        kept = {
            "node": self.node.index,
            "doing": doing,
            "agent": self.state,
            "iterate": self.iterate,
            "gradients": self.gradients,
            "exchanges": self.exchanges,
            "time": self.time,
        }
        return save(folder / f"node_{self.node.index}.safetensors", kept)


def assemble(
    core: MultiAgentEnv, keys: Keys, bills: tuple[str, str], rows: list[Tensor], own_times: bool
) -> Record:
    """The record of all nodes' logs.

    Args:
        core: measures the iterates.
        keys: the instance.
        bills: names of the two oracles in the ledger.
        rows: each node's log, ``(rows, 4 + d)``.
        own_times: whether each node reported at times of its own; the record then has the number of rows of
            the longest log, at equal distances, and at each of them every node's last row before it.
    """
    table = torch.stack(_aligned(rows) if own_times else rows, 1)
    facts, published = table[..., :4], table[..., 4:]
    counts = facts[..., 2:].round().long()
    gradients, exchanges = counts.unbind(-1)
    nodes = table.shape[1]
    time = gradients.double().sum(-1) / nodes if own_times else facts[:, 0, 0]
    published = published.to(core.torch_device, core.torch_dtype)
    calls = torch.stack((gradients.sum(-1), exchanges.sum(-1) // 2), -1)
    return Record(
        time=time,
        seconds=facts[..., 1].amax(-1),
        metrics=core.survey(keys, published, time.to(published)),
        calls=Ledger(counts=calls, kinds=bills),
        gradients=gradients,
        exchanges=exchanges,
        published=published,
    )


def _aligned(rows: list[Tensor]) -> list[Tensor]:
    seconds = [part[:, 1].contiguous() for part in rows]
    end = float(torch.stack([part[-1] for part in seconds]).max())
    grid = torch.linspace(0, end, max(len(part) for part in rows), dtype=torch.float64)
    aligned = []
    for part, when in zip(rows, seconds, strict=True):
        place = (torch.searchsorted(when, grid, right=True) - 1).clamp_min(0)
        part = part[place].clone()
        part[:, 1] = grid
        aligned.append(part)
    return aligned

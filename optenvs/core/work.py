"""The agent's own work: what it counts itself, because no oracle sees it and no budget counts it.

Linear systems solved, sketches, inner steps, projections. An agent that wants them on record keeps a
:class:`~optenvs.core.ledger.Ledger` in a field ``work`` of its memory, from ``init`` on, and bills it in
``act`` as an environment bills its own; :attr:`optenvs.core.rollout.Run.work` then holds it over time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .ledger import Ledger
from .struct import fields_of, replace

FIELD = "work"
Path = tuple[Any, ...]
"""Fields, keys and indices that lead from a memory to its ledger."""


def find(memory: Any, batch: int) -> Path | None:
    """Where a memory has the ledger of its work: the outermost field of that name; ``None`` without one.

    Raises:
        TypeError: two are equally deep (which one is the whole?), or its form is not that of ``batch`` rows.
    """
    level: list[tuple[Path, Any]] = [((), memory)]
    while level:
        found = [(path, node) for path, node in level if _is_one(path, node)]
        if len(found) > 1:
            places = " and ".join(".".join(map(str, path)) for path, _ in found)
            raise TypeError(f"work: one ledger holds all that an agent counts; its memory has {places}")
        if found:
            path, ledger = found[0]
            expected = (batch, len(ledger.kinds))
            if ledger.counts.shape != expected or ledger.counts.dtype != torch.int64:
                came = f"{ledger.counts.dtype} {tuple(ledger.counts.shape)}"
                raise TypeError(f"work: expected counts in int64 of shape {expected}, got {came}")
            return path
        level = [((*path, name), child) for path, node in level for name, child in _children(node)]
    return None


def ledger_at(memory: Any, path: Path) -> Ledger:
    """The ledger that :func:`find` has found."""
    for name in path:
        memory = getattr(memory, name) if isinstance(name, str) and _fields(memory) else memory[name]
    if not isinstance(memory, Ledger):
        raise TypeError(f"work: the agent's memory had a ledger of its work, and now {type(memory).__name__}")
    return memory


def resting(done: Tensor, before: Any, after: Any, path: Path) -> Any:
    """The memory ``after``, in which rows that were ``done`` have not worked."""
    old, new = ledger_at(before, path), ledger_at(after, path)
    counts = torch.where(done.unsqueeze(-1), old.counts, new.counts)
    return _with(after, path, replace(new, counts=counts))


def _is_one(path: Path, node: Any) -> bool:
    return isinstance(node, Ledger) and path[-1:] == (FIELD,)


def _fields(node: Any) -> tuple[str, ...]:
    return fields_of(node) or getattr(node, "_fields", ())


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if names := _fields(node):
        yield from ((name, getattr(node, name)) for name in names)
    elif isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, tuple | list):
        yield from enumerate(node)


def _with(node: Any, path: Path, ledger: Ledger) -> Any:
    """The tree with another ledger at ``path``."""
    if not path:
        return ledger
    name, rest = path[0], path[1:]
    if fields_of(node):
        return replace(node, **{name: _with(getattr(node, name), rest, ledger)})
    if _fields(node):
        return node._replace(**{name: _with(getattr(node, name), rest, ledger)})
    if isinstance(node, Mapping):
        return {**node, name: _with(node[name], rest, ledger)}
    return type(node)(_with(child, rest, ledger) if i == name else child for i, child in enumerate(node))

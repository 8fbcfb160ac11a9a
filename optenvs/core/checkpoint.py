"""Steps whose graph is thrown away, and made anew where a gradient comes back: memory for time.

An unrolled episode keeps what every operation of every step needs for its derivative. In windows of ``W`` of
its ``T`` steps it keeps the trees between windows, and the graph of one window at a time: ``T / W`` trees and
``W`` steps, least at ``W`` about the root of ``T``. Each step is then computed twice (Griewank and Walther
2000, with one level). ``torch.utils.checkpoint`` cannot do it here: it hooks what is saved, which
``torch.func`` refuses, and that is what oracles differentiate by.

A window's inputs are cut off from what was before, and what it reaches of the agent's parameters (wherever
they come from) is found in its graph; one function of autograd then stands for the window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .env import OptimizationEnv
from .evaluations import due
from .oracles import inside_transform
from .stepper import Entry, Place, Stepper, Trees, may_hold
from .struct import tensors, tree_map
from .threads import Threads

Walk = Callable[[Any], Any]
"""From trees to trees, by torch alone; the same on every call."""


def check_checkpoint(checkpoint: Any, agent: Any) -> None:
    """Raise unless it is a number of steps, and the agent one that can take its steps again.

    Raises:
        ValueError: no whole number >= 0. TypeError: an agent that computes on the host.
    """
    if isinstance(checkpoint, bool) or not isinstance(checkpoint, int) or checkpoint < 0:
        raise ValueError(f"checkpoint: expected a number of steps >= 0, got {checkpoint!r}")
    if checkpoint and getattr(agent, "on_host", False):
        raise TypeError(
            f"checkpoint: {type(agent).__name__} computes on the host, and may not take the same step twice"
        )


@dataclasses.dataclass(frozen=True)
class Window:
    """Some steps that are computed again in the backward pass.

    Attributes:
        stepper: makes them.
        first: the number of the query before them, for the evaluations of the environment.
        most: how many steps; fewer where all episodes are over, and the host knows it.
    """

    stepper: Stepper
    first: int
    most: int

    def checkpointed(self, place: Place) -> tuple[Place, list[Entry]]:
        """Where the steps lead, and what the record keeps of each."""
        env, overs = self.stepper.env, []

        def walk(trees: Trees) -> tuple[Trees, list[Entry]]:
            known, entries = tuple(overs), []
            for i in range(len(known) or self.most):
                done = trees[1].done
                if known:  # the second time, what was decided is not decided again
                    over = known[i]
                else:
                    over = may_hold(done)
                    if entries and over and done.device.type == "cpu" and bool(done.all()):
                        break
                    overs.append(over)
                trees = self.stepper.step(*trees, over)
                if due(env.evaluations, self.first + i + 1):
                    trees = trees[0], env.evaluate(trees[1])
                entries.append(self.stepper.entry(trees))
            return trees, entries

        trees, entries = checkpointed(walk, place.trees, env, self.stepper.agent)
        return Place(trees), entries


class _Distinct:
    """The tensors of trees, each once, and the trees with others in their places."""

    def __init__(self, trees: Any) -> None:
        self._trees = trees
        self.found = list({id(leaf): leaf for leaf in tensors(trees).values()}.values())

    def filled(self, values: list[Tensor]) -> Any:
        """The trees with these tensors."""
        place = {id(leaf): value for leaf, value in zip(self.found, values, strict=True)}
        return tree_map(lambda leaf: place[id(leaf)], self._trees)


class _Window(torch.autograd.Function):
    """A window that was computed already, as one operation on its inputs and parameters."""

    @staticmethod
    def forward(ctx: Any, again: Any, found: list[Tensor], inputs: int, *given: Tensor) -> tuple[Tensor, ...]:
        ctx.again, ctx.inputs = again, inputs
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # it was asked for with create_graph, and would be taken for a constant
            raise RuntimeError(
                "checkpoint: a gradient through steps that are computed again cannot be differentiated "
                "itself; leave it at 0"
            )
        given = ctx.saved_tensors
        inputs, parameters = given[: ctx.inputs], given[ctx.inputs :]
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            outputs = ctx.again(leaves)
            pairs = [(y, slope) for y, slope in zip(outputs, slopes, strict=True) if slope is not None]
            found = torch.autograd.grad(
                [y for y, _ in pairs],
                [*leaves, *parameters],
                [slope for _, slope in pairs],
                retain_graph=True,  # of what parameters were made from, which other windows need
                allow_unused=True,
            )
        return None, None, None, *found


def checkpointed(walk: Walk, trees: Any, env: OptimizationEnv, agent: Any) -> Any:
    """``walk(trees)``, whose graph is made anew when it is needed.

    Args:
        walk: steps of ``agent`` on ``env``.
        trees: the agent's memory and the state.
        env: says how many threads the steps are worth.
        agent: its tensors are what a gradient may be asked for, whatever they were made from.

    Raises:
        TypeError: it is transformed by ``torch.func``, which sees no graph.
        RuntimeError: in the backward pass, where the steps were others at the second time, or the gradient is
            to be differentiated itself.
    """
    before, batch = _Distinct(trees), len(trees[1].k)
    live = [i for i, leaf in enumerate(before.found) if leaf.requires_grad]
    if any(inside_transform(leaf) for leaf in before.found):
        raise TypeError("checkpoint: expected torch.autograd, got a transform of torch.func; leave it at 0")

    def outputs(leaves: list[Tensor]) -> tuple[_Distinct, list[int]]:
        values = [leaf.detach() for leaf in before.found]
        for i, leaf in zip(live, leaves, strict=True):
            values[i] = leaf
        after = _Distinct(walk(before.filled(values)))
        return after, [i for i, leaf in enumerate(after.found) if leaf.requires_grad]

    inputs = [before.found[i] for i in live]
    leaves = [leaf.detach().requires_grad_() for leaf in inputs]
    after, moving = outputs(leaves)
    parameters = _parameters([after.found[i] for i in moving], leaves, list(_held(agent)))
    values = [leaf.detach() for leaf in after.found]
    told = [values[i] for i in moving]
    mark, count = _mark(told), len(values)

    def again(leaves: list[Tensor]) -> list[Tensor]:
        with Threads(env, batch):
            found, live_now = outputs(leaves)
        made = [found.found[i] for i in live_now]
        if live_now != moving or len(found.found) != count or not _alike(_mark(made), mark):
            raise RuntimeError(
                f"checkpoint: {type(agent).__name__} and {env.name} answered otherwise when the same steps "
                "were computed again; one of them is not pure"
            )
        return made

    del leaves
    if told:
        made = _Window.apply(again, told, len(inputs), *inputs, *parameters)
        for i, value in zip(moving, made, strict=True):
            values[i] = value
    return after.filled(values)


def _mark(values: list[Tensor]) -> Tensor | None:
    """What tells whether values are the same later; ``None`` on an accelerator, which would be waited for."""
    if not values or not values[0].is_cpu:
        return None
    return torch.stack([value.detach().abs().sum().double() for value in values])


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    return one is None or other is None or torch.allclose(one, other, rtol=1e-4, atol=1e-12, equal_nan=True)


def _held(agent: Any) -> Iterator[Tensor]:
    """What an agent's fields hold that was made from something else that has a gradient."""
    for field in dataclasses.fields(agent) if dataclasses.is_dataclass(agent) else ():
        value = getattr(agent, field.name)
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _held(value)


def _parameters(outputs: list[Tensor], apart: list[Tensor], held: list[Tensor]) -> list[Tensor]:
    """From what, but for ``apart``, a gradient of ``outputs`` comes: ``held`` tensors, and else leaves.

    Where a leaf is reached beside a held tensor that was made from it, the leaves stand for both.
    """
    ends = {tensor.grad_fn for tensor in held}
    leaves, met = _leaves_below([y.grad_fn for y in outputs], ends)
    below, _ = _leaves_below([node for end in met for node, _ in end.next_functions], set())
    if not met:
        found = leaves
    elif leaves.keys() & below.keys():
        found = leaves | below
    else:
        found = leaves | {id(tensor): tensor for tensor in held if tensor.grad_fn in met}
    return [tensor for key, tensor in found.items() if all(key != id(leaf) for leaf in apart)]


def _leaves_below(nodes: list[Any], ends: set[Any]) -> tuple[dict[int, Tensor], list[Any]]:
    """The leaves that a graph reaches from these nodes, by identity, and the ``ends`` at which it stopped."""
    found: dict[int, Tensor] = {}
    seen, met = set(), []
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends:
            met.append(node)
            continue
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        waiting += [below for below, _ in node.next_functions]
    return found, met

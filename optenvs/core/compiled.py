"""Pure functions of tensors, recorded and compiled for one list of shapes.

``torch.compile`` looks before each call at all that its trace has read, which takes longer than a small step.
Here a function is run once while its operations are recorded, and what is compiled of them looks at nothing:
whoever calls it sees to it that tensors have the shapes, dtypes and devices of the example.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from .tracing import recording

Function = Callable[[list[Tensor]], list[Tensor]]

_UNCHECKED = {"size_asserts": False, "alignment_asserts": False}
"""Settings of the compiler: tensors are contiguous, and their sizes known."""

_LOOKED = (
    "compile: a step asks for the value of a tensor, to decide what to do or to compute on the host; the "
    "answer of the first step would be held fixed"
)


class _Blind(TorchFunctionMode):
    """Refuses what hands numbers to others than torch, which recording does not see."""

    LOOKS = (Tensor.numpy, Tensor.tolist, Tensor.__array__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.LOOKS:
            raise TypeError(_LOOKED)
        return func(*args, **(kwargs or {}))


class Program:
    """``function``, compiled for tensors like those of ``example``.

    A result that is an argument as it came is handed through. What the function reads besides its arguments,
    for example data of an environment, stays where it is; it is not looked at again, so it must not be
    replaced, though it may be written to.

    Raises:
        TypeError: the function asks for the value of a tensor, to decide what to do or to compute elsewhere.
    """

    def __init__(self, function: Function, example: list[Tensor]) -> None:
        recorder, wanted = _record(function, example)
        graph, self._constants = recorder.graph, recorder.outside
        inputs = graph.find_nodes(op="placeholder")
        made = [node for node in dict.fromkeys(wanted) if node.op != "placeholder"]
        graph.output(tuple(made))
        place = {node: i for i, node in enumerate([*inputs, *made])}
        self._wanted = [place[node] for node in wanted]
        self._read = [place[node] for node in inputs if node.users]
        for node in inputs:
            if not node.users:
                graph.erase_node(node)
        known = [*example, *self._constants]
        self._call = _compile(GraphModule({}, graph), [known[i] for i in self._read])

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """The results of the function for contiguous ``tensors``."""
        known = [*tensors, *self._constants]
        known += self._call(*[known[i] for i in self._read])
        return [known[i] for i in self._wanted]


class _Recorder(TorchDispatchMode):
    """Notes each operation that runs under it in a graph.

    torch's own ``make_fx`` makes a fake tensor of each result, and looks at more than is asked here: it takes
    several times as long.

    Attributes:
        graph: the operations; its first placeholders are ``given``, those after them what lies outside.
        outside: the tensors that were met and are neither given nor results.
    """

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.graph = Graph()
        self.outside: list[Tensor] = []
        self._nodes = WeakTensorKeyDictionary()
        self._lie_outside: set[Node] = set()
        self._fixed: set[Node] = set()  # made of literals: their values are the same at every call
        for i, tensor in enumerate(given):
            self._last = self._nodes[tensor] = self.graph.placeholder(f"given_{i}")

    def node(self, tensor: Tensor) -> Node:
        """What stands for ``tensor``: an argument of the program where it was met outside."""
        found = self._nodes.get(tensor)
        if found is None:  # compiled in, it would be copied
            with self.graph.inserting_after(self._last):
                found = self.graph.placeholder(f"outside_{len(self.outside)}")
            self._last = self._nodes[tensor] = found
            self._lie_outside.add(found)
            self.outside.append(tensor)
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        literal = func is torch.ops.aten.lift_fresh.default
        if literal:  # it may be written over: each call has its own
            func = torch.ops.aten.lift_fresh_copy.default
        met: list[Node] = []

        def noted(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            met.append(self.node(leaf))
            return met[-1]

        asked = map_aggregate(args, noted), map_aggregate(kwargs, noted)
        if torch.Tag.data_dependent_output in func.tags:
            if not self._lie_outside.union(self._fixed).issuperset(met):
                raise TypeError(_LOOKED)
            return func(*args, **kwargs)
        found = func(*args, **kwargs)
        fixed = literal or (
            not self._fixed.isdisjoint(met) and self._lie_outside.union(self._fixed).issuperset(met)
        )
        self._bind(found, self.graph.call_function(func, *asked), fixed)
        return found

    def _bind(self, found: Any, node: Node, fixed: bool) -> None:
        if fixed:
            self._fixed.add(node)
        if isinstance(found, Tensor):
            self._nodes[found] = node
        elif isinstance(found, list | tuple):
            for i, part in enumerate(found):
                self._bind(part, self.graph.call_function(operator.getitem, (node, i)), fixed)


def _record(function: Function, example: list[Tensor]) -> tuple[_Recorder, list[Node]]:
    """The operations of one call, and what stands for its results."""
    known: set[int] = set()
    apart = []  # a tensor in two places would be taken for one
    for tensor in example:
        apart.append(tensor.clone() if id(tensor) in known else tensor)
        known.add(id(tensor))
    with recording(), _Blind(), _Recorder(apart) as recorder:
        results = [x.contiguous() for x in function(list(apart))]
    return recorder, [recorder.node(x) for x in results]


def _compile(traced: GraphModule, example: list[Tensor]) -> Callable[..., Any]:
    if not example:
        return traced
    from torch import _inductor as inductor  # a second

    with warnings.catch_warnings():
        # pairs of normal numbers are made as complex ones
        warnings.filterwarnings("ignore", "Torchinductor does not .*complex", UserWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # what it imports
        return inductor.compile(traced, [*example], options=_UNCHECKED)  # type: ignore[return-value]

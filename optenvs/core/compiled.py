"""Pure functions of tensors, recorded and compiled for one list of shapes.

``torch.compile`` looks before each call at all that its trace has read, which takes longer than a small step.
Here a function is run once while its operations are recorded (``make_fx``), and what is compiled of them
looks at nothing: whoever calls it sees to it that tensors have the shapes, dtypes and devices of the example.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

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
        traced = _record(function, example)
        self._constants = _lift(traced)
        inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
        (output,) = traced.graph.find_nodes(op="output")
        wanted: list[Node] = list(output.args[0])
        made = [node for node in dict.fromkeys(wanted) if node.op != "placeholder"]
        place = {node: i for i, node in enumerate([*inputs, *made])}
        self._wanted = [place[node] for node in wanted]
        output.args = (tuple(made),)
        self._read = [place[node] for node in inputs if node.users]
        for node in inputs:
            if not node.users:
                traced.graph.erase_node(node)
        traced.recompile()
        known = [*example, *self._constants]
        self._call = _compile(traced, [known[i] for i in self._read])

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """The results of the function for contiguous ``tensors``."""
        known = [*tensors, *self._constants]
        known += self._call(*[known[i] for i in self._read])
        return [known[i] for i in self._wanted]


def _record(function: Function, example: list[Tensor]) -> GraphModule:
    """The operations of one call."""
    # half a second, for those who need it
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    known: set[int] = set()
    apart = []  # a tensor in two places would be taken for one
    for tensor in example:
        apart.append(tensor.clone() if id(tensor) in known else tensor)
        known.add(id(tensor))
    # one mode for what is noted of every operation: without it each makes one of its own, at twice the time
    with recording(), _Blind(), tracing(TracingContext(FakeTensorMode())):
        try:
            return make_fx(lambda *tensors: [x.contiguous() for x in function(list(tensors))])(*apart)
        except RuntimeError as error:
            if "tracing tensor" in str(error):  # what it says of a number asked for
                raise TypeError(_LOOKED) from error
            raise


def _lift(traced: GraphModule) -> list[Tensor]:
    """Make arguments of the tensors that were met outside: compiled in, they would be copied."""
    graph = traced.graph
    lifted: dict[str, Node] = {}
    *_, last = (node for node in graph.nodes if node.op == "placeholder")
    for node in graph.find_nodes(op="get_attr"):
        if node.target not in lifted:
            with graph.inserting_after(last):
                last = lifted[node.target] = graph.placeholder(f"outside_{len(lifted)}")
        node.replace_all_uses_with(lifted[node.target])
        graph.erase_node(node)
    return [getattr(traced, name) for name in lifted]


def _compile(traced: GraphModule, example: list[Tensor]) -> Callable[..., Any]:
    if not example:
        return traced
    from torch import _inductor as inductor  # a second

    with warnings.catch_warnings():
        # pairs of normal numbers are made as complex ones
        warnings.filterwarnings("ignore", "Torchinductor does not .*complex", UserWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # what it imports
        return inductor.compile(traced, [*example], options=_UNCHECKED)  # type: ignore[return-value]

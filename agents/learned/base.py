"""What learned optimizers share: a network in a frozen agent, made from a seed, saved and loaded."""

from __future__ import annotations

import abc
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree

from optenvs.core.random import keys_from_seed, uniform
from optenvs.core.sealed import read_tensors, write_tensors

from ..core import Agent, require

_FORMAT = "optenvs-learned-2"
_ROWS = "weights of rows"  # no name of a module's parameter holds a blank


@dataclass(frozen=True, eq=False)
class LearnedAgent(Agent):
    """An optimizer whose step a network computes. ``act`` is differentiable in the network's parameters.

    Wherever it runs, its weights follow the observation's device and dtype.

    Args:
        seed: names the initial weights; no global generator is used.
        dtype: of the weights that are made, ``float32`` or ``float64``; best that of the environment.
        net: the network, to share or to bring trained weights; made from ``seed`` by default.
        weights: one set of weights a row, ``(B, D)`` as :attr:`flat` lays them out, in place of the network's
            own, which all rows share; a population of ``B`` rules is then one agent. Differentiable.
    """

    seed: int = 0
    dtype: str = "float32"
    net: Any = None
    weights: Float[Tensor, "B D"] | None = None

    needs: ClassVar[tuple[str, ...]] = ("gradient",)

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """The network of these hyper-parameters, its weights not yet set."""

    def __post_init__(self) -> None:
        require(self, "dtype", self.dtype in ("float32", "float64"), "'float32' or 'float64'")
        fresh = self.build()
        if self.net is None:
            object.__setattr__(self, "net", initialise(fresh, self.seed))
        else:
            wanted, came = _shapes(fresh), _shapes(self.net)
            require(self, "net", wanted == came, f"a network with the parameters {wanted} (or net=None)")
        if self.weights is not None and (
            not isinstance(self.weights, Tensor) or self.weights.shape[1:] != (self.size,)
        ):
            came = getattr(self.weights, "shape", type(self.weights).__name__)
            raise ValueError(
                f"{type(self).__name__}: weights: expected a tensor (B, {self.size}) or None, got {came}"
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the weights as torch names it."""
        return getattr(torch, self.dtype)

    @property
    def size(self) -> int:
        """D, the number of weights in one set."""
        return sum(value.numel() for value in self.net.parameters())

    @property
    def flat(self) -> Float[Tensor, "D"]:
        """The network's own weights side by side: a row of ``weights``."""
        return nn.utils.parameters_to_vector(self.net.parameters())

    def run(self, like: Tensor, *more: Any) -> Any:
        """The network's answer to inputs with rows first; ``like`` is one and says the device and dtype."""
        inputs = (like, *more)
        own = dict(self.net.named_parameters())
        if self.weights is None:
            first = next(iter(own.values()))
            if (first.device, first.dtype) == (like.device, like.dtype):
                return self.net(*inputs)
            return functional_call(self.net, {name: value.to(like) for name, value in own.items()}, inputs)
        sets = self._sets(like)
        if self._takes_rows:
            return functional_call(self.net, sets, inputs)
        leaves, form = _pytree.tree_flatten(inputs)
        forms = []

        def single(own: dict[str, Tensor], *row: Tensor) -> tuple[Tensor, ...]:
            one = _pytree.tree_unflatten([leaf.unsqueeze(0) for leaf in row], form)
            parts, answer = _pytree.tree_flatten(functional_call(self.net, own, one))
            forms.append(answer)
            return tuple(part.squeeze(0) for part in parts)

        answers = torch.func.vmap(single)(sets, *leaves)
        return _pytree.tree_unflatten(answers, forms[0])

    def run_beside(self, own: Float[Tensor, "B n F"], shared: Float[Tensor, "B S"]) -> Float[Tensor, "B n o"]:
        """The network's answer to ``own`` inputs of n entries and, behind each of them, the ``shared`` ones.

        A perceptron's first layer takes these once a row, and not once an entry.
        """
        layers = self._perceptron(own)
        if layers is None:
            return self.run(torch.cat((own, shared.unsqueeze(1).expand(-1, own.shape[1], -1)), -1))
        (weight, bias), *others = layers
        first, second = weight.split((own.shape[-1], shared.shape[-1]), -1)
        if weight.ndim == 2:
            inner = nn.functional.linear(own, first) + torch.addmm(bias, shared, second.mT).unsqueeze(1)
            for weight, bias in others:
                inner = nn.functional.linear(inner.relu(), weight, bias)
            return inner
        inner = torch.baddbmm(bias.unsqueeze(1), shared.unsqueeze(1), second.mT)
        inner = torch.baddbmm(inner, own, first.mT)
        for weight, bias in others:
            inner = torch.baddbmm(bias.unsqueeze(1), inner.relu(), weight.mT)
        return inner

    def _perceptron(self, like: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        """Weights and biases of the layers, for all rows or one set a row; ``None`` of another network."""
        parts = list(self.net) if type(self.net) is nn.Sequential else []
        if not parts or any(type(part) is not (nn.ReLU if i % 2 else Affine) for i, part in enumerate(parts)):
            return None
        if self.weights is None:
            layers = [part for part in parts if isinstance(part, Affine)]
            return [(layer.weight.to(like), layer.bias.to(like)) for layer in layers]
        sets = self._sets(like)
        return [(sets[f"{i}.weight"], sets[f"{i}.bias"]) for i in range(0, len(parts), 2)]

    def own(self, name: str, like: Tensor) -> Float[Tensor, "_ *shape"]:
        """A parameter of the network as the rows of ``like`` read it: one for all of them, or one a row.

        It has the device and dtype of ``like``.
        """
        if self.weights is None:
            return self.net.get_parameter(name).to(like).unsqueeze(0)
        return self._sets(like)[name]

    def _sets(self, like: Tensor) -> dict[str, Tensor]:
        """The weights of each row by the network's names, ``(B, *shape)``."""
        assert self.weights is not None
        if len(self.weights) != len(like):
            raise ValueError(
                f"{type(self).__name__}: weights: expected a set for each of {len(like)} rows, got "
                f"{len(self.weights)}"
            )
        own = dict(self.net.named_parameters())
        parts = self.weights.to(like).split([value.numel() for value in own.values()], dim=1)
        return {
            name: part.reshape(len(part), *value.shape)
            for (name, value), part in zip(own.items(), parts, strict=True)
        }

    @property
    def _takes_rows(self) -> bool:
        """Whether all parameters are those of modules that take a set a row as it is."""
        return all(
            isinstance(part, Affine | Numbers)
            for part in self.net.modules()
            if next(part.parameters(False), None) is not None
        )

    def parameters(self) -> Iterator[nn.Parameter]:
        """The meta-parameters, for an outer ``torch.optim`` optimizer."""
        return self.net.parameters()

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters without the weights, as JSON has them."""
        apart = ("net", "weights")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in apart}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and hyper-parameters to one file (safetensors) under a checksum, atomically."""
        tensors = {name: value.detach().clone().contiguous() for name, value in self.net.state_dict().items()}
        if self.weights is not None:
            tensors[_ROWS] = self.weights.detach().clone().contiguous()
        metadata = {"format": _FORMAT, "agent": type(self).__name__, "settings": json.dumps(self.settings())}
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """The agent that :meth:`save` wrote.

        Raises:
            ValueError: the file is damaged, or holds another agent. FileNotFoundError: there is none.
        """
        try:
            metadata, weights = read_tensors(path, _FORMAT, device)
            if metadata["agent"] != cls.__name__:
                raise ValueError(f"expected the weights of {cls.__name__}, got {metadata['agent']!r}")
            agent = cls(**json.loads(metadata["settings"]), weights=weights.pop(_ROWS, None))
            agent.net.to(device).load_state_dict(weights)
        except (
            ValueError,
            TypeError,
            LookupError,
            RuntimeError,
        ) as error:
            raise ValueError(f"{path}: not a readable learned optimizer ({error})") from error
        return agent


class Affine(nn.Module):
    """``x W' + b``; like ``nn.Linear``, without a draw from the global generator.

    Weights ``(B, out, in)`` and biases ``(B, out)`` are those of the rows of ``x``. With ``zero`` they begin
    at 0, and not at random.
    """

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype, zero: bool = False) -> None:
        super().__init__()
        self.zero = zero
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return nn.functional.linear(x, self.weight, self.bias)
        flat = x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)
        found = torch.baddbmm(self.bias.unsqueeze(1), flat, self.weight.mT)
        return found.reshape(*x.shape[:-1], found.shape[-1])


class Numbers(nn.Module):
    """Tensors by name that a rule reads as they are, from these starts or uniform within these bounds."""

    def __init__(
        self, dtype: torch.dtype, starts: Mapping[str, Any], bounds: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.bounds = dict(bounds or {})
        for name, start in starts.items():
            self.register_parameter(name, nn.Parameter(torch.as_tensor(start, dtype=dtype).clone()))


def perceptron(inputs: int, hidden: int, layers: int, outputs: int, dtype: torch.dtype) -> nn.Sequential:
    """Hidden layers of rectified units, and a linear output."""
    parts: list[nn.Module] = []
    for before, after in pairwise([inputs] + [hidden] * layers):
        parts += [Affine(before, after, dtype), nn.ReLU()]
    return nn.Sequential(*parts, Affine(hidden, outputs, dtype))


def initialise(net: nn.Module, seed: int) -> nn.Module:
    """Every :class:`Affine`'s weights and biases uniform within ``1 / sqrt(inputs)``, as torch's default.

    Those that begin at zero, and :class:`Numbers` without a bound, stay as they are.
    """
    key = keys_from_seed(seed, 1)
    with torch.no_grad():
        for name, layer in net.named_modules():
            for field, bound in _bounds(layer).items():
                value = layer.get_parameter(field)
                draw = uniform(key, f"{name} {field}", tuple(value.shape), dtype=value.dtype)
                value.copy_((2 * draw[0] - 1) * bound)
    return net


def _bounds(layer: nn.Module) -> dict[str, float]:
    """What of a module is drawn, and within which bounds."""
    if isinstance(layer, Affine) and not layer.zero:
        return dict.fromkeys(("weight", "bias"), 1 / math.sqrt(layer.weight.shape[1]))
    return layer.bounds if isinstance(layer, Numbers) else {}


def _shapes(net: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.named_parameters()}

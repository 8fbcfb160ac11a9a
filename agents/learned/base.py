"""What learned optimizers share: a network in a frozen agent, made from a seed, saved and loaded."""

from __future__ import annotations

import abc
import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from optenvs.core.random import keys_from_seed, uniform
from optenvs.core.sealed import read_tensors, write_tensors

from ..core import Agent, require

_FORMAT = "optenvs-learned-2"


@dataclass(frozen=True, eq=False)
class LearnedAgent(Agent):
    """An optimizer whose step a network computes. ``act`` is differentiable in the network's parameters.

    Args:
        seed: names the initial weights; no global generator is used.
        dtype: of the weights, ``float32`` or ``float64``; that of the environment.
        net: the network, to share or to bring trained weights; made from ``seed`` by default.
    """

    seed: int = 0
    dtype: str = "float32"
    net: Any = None

    needs: ClassVar[tuple[str, ...]] = ("gradient",)

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """The network of these hyper-parameters, its weights not yet set."""

    def __post_init__(self) -> None:
        require(self, "dtype", self.dtype in ("float32", "float64"), "'float32' or 'float64'")
        fresh = self.build()
        if self.net is None:
            object.__setattr__(self, "net", initialise(fresh, self.seed))
            return
        wanted, came = _shapes(fresh), _shapes(self.net)
        require(self, "net", wanted == came, f"a network with the parameters {wanted} (or net=None)")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the weights as torch names it."""
        return getattr(torch, self.dtype)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The meta-parameters, for an outer ``torch.optim`` optimizer."""
        return self.net.parameters()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and hyper-parameters to one file (safetensors) under a checksum, atomically."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "net"}
        tensors = {name: value.detach().clone().contiguous() for name, value in self.net.state_dict().items()}
        metadata = {"format": _FORMAT, "agent": type(self).__name__, "settings": json.dumps(settings)}
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
            agent = cls(**json.loads(metadata["settings"]))
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
    """``x W' + b``; like ``nn.Linear``, without a draw from the global generator."""

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def initialise(net: nn.Module, seed: int) -> nn.Module:
    """Every :class:`Affine`'s weights and biases uniform within ``1 / sqrt(inputs)``, as torch's default."""
    key = keys_from_seed(seed, 1)
    with torch.no_grad():
        for name, layer in net.named_modules():
            if isinstance(layer, Affine):
                bound = 1 / math.sqrt(layer.weight.shape[1])
                for field, value in layer.named_parameters():
                    draw = uniform(key, f"{name} {field}", tuple(value.shape), dtype=value.dtype)
                    value.copy_((2 * draw[0] - 1) * bound)
    return net


def _shapes(net: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.named_parameters()}

"""Networks as pure functions over flat parameter vectors, B of them at once.

``make_model("mlp", shape=(1, 8, 8), classes=10, widths=(32,))`` gives an architecture, and
:func:`loss_and_gradient` what an optimizer asks of it.
"""

from __future__ import annotations

from typing import Any

from .activations import ACTIVATIONS
from .attention import READOUTS, Transformer, attend
from .base import INITS, Model, Slot
from .convolution import CNN, ResNet
from .dense import MLP, NORMS, Linear, Logistic, RandomFeatures
from .losses import (
    LOSSES,
    accuracy,
    autograd_loss_and_gradient,
    cross_entropy,
    hinge,
    logistic,
    loss_and_gradient,
    squared,
)
from .objective import Objective, Part
from .policies import Categorical, Gaussian
from .trajectories import Estimator, Trajectories

MODELS = ("logistic", "mlp", "random_features", "cnn", "resnet")

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "INITS",
    "LOSSES",
    "MLP",
    "MODELS",
    "NORMS",
    "READOUTS",
    "Categorical",
    "Estimator",
    "Gaussian",
    "Linear",
    "Logistic",
    "Model",
    "Objective",
    "Part",
    "RandomFeatures",
    "ResNet",
    "Slot",
    "Trajectories",
    "Transformer",
    "accuracy",
    "attend",
    "autograd_loss_and_gradient",
    "cross_entropy",
    "hinge",
    "logistic",
    "loss_and_gradient",
    "make_model",
    "squared",
]


def make_model(
    name: str | Model,
    shape: tuple[int, ...] = (),
    classes: int = 0,
    widths: tuple[int, ...] | None = None,
    activation: str = "relu",
    norm: str = "none",
    depth: int = 18,
    init: str = "uniform",
    gain: float = 1.0,
    frozen: tuple[str, ...] | None = None,
) -> Model:
    """The architecture ``name`` for inputs of ``shape``; each takes those options that it has.

    Args:
        name: One of :data:`MODELS`; a :class:`Model` is returned as it is.
        shape: Shape of one input, ``(channels, height, width)`` for ``cnn`` and ``resnet``.
        classes: Number of classes.
        widths: Hidden widths of ``mlp`` (default 32), the one of ``random_features`` (default 256), channels
            of ``cnn`` (default 8, 16), the one base width of ``resnet`` (default 64).
        activation: One of :data:`ACTIVATIONS`.
        norm: Normalisation of ``mlp``, one of :data:`NORMS`.
        depth: Of ``resnet``: 18, 34 or 50.
        init: How weights begin, see :class:`Model`.
        gain: A factor on those beginnings.
        frozen: Slots or layers held out of the flat vector; those of the model by default.
    """
    if isinstance(name, Model):
        return name
    shape = tuple(shape)
    if classes < 2:
        raise ValueError(f"classes: expected at least 2, got {classes}")
    whole = widths is None or (
        isinstance(widths, tuple | list) and all(isinstance(n, int) and n >= 1 for n in widths)
    )
    if not whole:
        raise ValueError(f"widths: expected a tuple of whole numbers >= 1, got {widths!r}")
    begin: dict[str, Any] = {"init": init, "gain": gain}
    if frozen is not None:
        begin["frozen"] = tuple(frozen)
    if name == "logistic":
        return Logistic(shape, classes, **begin)
    if name == "mlp":
        return MLP(shape, classes, (32,) if widths is None else tuple(widths), activation, norm, **begin)
    if name == "random_features":
        return RandomFeatures(
            shape, classes, (256,) if widths is None else tuple(widths), activation, **begin
        )
    if name == "cnn":
        return CNN(shape, classes, (8, 16) if widths is None else tuple(widths), activation, **begin)
    if name == "resnet":
        if widths is not None and len(widths) != 1:
            raise ValueError(f"widths: a resnet has one base width, got {tuple(widths)}")
        return ResNet(shape, classes, depth, 64 if widths is None else widths[0], activation, **begin)
    raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")

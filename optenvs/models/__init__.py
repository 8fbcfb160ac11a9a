"""Networks as pure functions over flat parameter vectors, B of them at once.

``make_model("mlp", shape=(1, 8, 8), classes=10, widths=(32,))`` gives an architecture, and
:func:`loss_and_gradient` what an optimizer asks of it.
"""

from __future__ import annotations

from .activations import ACTIVATIONS
from .base import Model, Slot
from .convolution import CNN, ResNet
from .dense import MLP, NORMS, Logistic
from .losses import accuracy, autograd_loss_and_gradient, cross_entropy, loss_and_gradient

MODELS = ("logistic", "mlp", "cnn", "resnet")

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "MLP",
    "MODELS",
    "NORMS",
    "Logistic",
    "Model",
    "ResNet",
    "Slot",
    "accuracy",
    "autograd_loss_and_gradient",
    "cross_entropy",
    "loss_and_gradient",
    "make_model",
]


def make_model(
    name: str | Model,
    shape: tuple[int, ...] = (),
    classes: int = 0,
    widths: tuple[int, ...] | None = None,
    activation: str = "relu",
    norm: str = "none",
    depth: int = 18,
) -> Model:
    """The architecture ``name`` for inputs of ``shape``; each takes those options that it has.

    Args:
        name: One of :data:`MODELS`; a :class:`Model` is returned as it is.
        shape: Shape of one input, ``(channels, height, width)`` for ``cnn`` and ``resnet``.
        classes: Number of classes.
        widths: Hidden widths of ``mlp`` (default 32), channels of ``cnn`` (default 8, 16), the one
            base width of ``resnet`` (default 64).
        activation: One of :data:`ACTIVATIONS`.
        norm: Normalisation of ``mlp``, one of :data:`NORMS`.
        depth: Of ``resnet``: 18, 34 or 50.
    """
    if isinstance(name, Model):
        return name
    shape = tuple(shape)
    if classes < 2:
        raise ValueError(f"classes: expected at least 2, got {classes}")
    if name == "logistic":
        return Logistic(shape, classes)
    if name == "mlp":
        return MLP(shape, classes, (32,) if widths is None else tuple(widths), activation, norm)
    if name == "cnn":
        return CNN(shape, classes, (8, 16) if widths is None else tuple(widths), activation)
    if name == "resnet":
        if widths is not None and len(widths) != 1:
            raise ValueError(f"widths: a resnet has one base width, got {tuple(widths)}")
        return ResNet(shape, classes, depth, 64 if widths is None else widths[0], activation)
    raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")

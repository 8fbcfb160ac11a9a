"""What is measured of a network on group arithmetic, besides its loss: the truth for plots, unbilled."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.models import Part
from optenvs.models.losses import accuracy

from .energy import Tables, exact, shares
from .network import GroupNetwork
from .objective import GroupObjective, residual

_SCORES = ("train_accuracy", "test_loss", "test_accuracy", "purity", "irreps")
_THEORY = ("energy", "signal", "alignment", "off_diagonal")


def names_of(model: GroupNetwork, product: bool) -> tuple[str, ...]:
    """The metrics of a model: those of the theory where it is the theory's, and learns a product."""
    return _SCORES + _THEORY if model.plain and product else _SCORES


def measure(
    objective: GroupObjective,
    point: Float[Tensor, "B D"],
    parts: tuple[Part, Part],
    tables: Tables,
    product: bool,
    added: Float[Tensor, "B 1 M"] | None = None,
) -> dict[str, Tensor]:
    """Accuracies, the loss on what is held out, and what the nodes and the signal at them look like.

    Args:
        objective: model and loss.
        point: all parameters.
        parts: training and test tuples, an instance its own.
        tables: the group.
        product: whether the group's product is learned, and no expression.
        added: to the outputs.
    """
    model = objective.model
    assert isinstance(model, GroupNetwork)
    train, test = parts
    weights = model.unflatten(point)
    features = model.features(weights, train.inputs)
    nodes = weights["hidden.weight"]
    nodes = torch.view_as_complex(nodes.contiguous()) if model.complex_weights else nodes
    fit, held = _outputs(model, point, train, added), _outputs(model, point, test, added)
    share, owner = shares(tables, nodes).max(-1)
    led = torch.zeros_like(share[:, :1]).expand(-1, len(tables.owners)).scatter(1, owner, 1.0)
    found = {
        "train_accuracy": accuracy(fit, train.targets),
        "test_loss": objective.of(held, test.targets),
        "test_accuracy": accuracy(held, test.targets),
        "purity": share.mean(-1),
        "irreps": led.sum(-1),
    }
    if not (model.plain and product):
        return found
    size = torch.linalg.vector_norm(nodes, dim=-1, keepdim=True)
    unit = (nodes / torch.where(size > 0, size, 1.0)).flatten(0, 1)
    # tables of M x M numbers a node: some nodes at a time
    pieces = unit.split(max(1, (1 << 22) // len(tables.inverse) ** 2))
    energies = torch.cat([exact(tables, piece)[0] for piece in pieces]).view(size.shape[:2])
    return (
        found
        | _signal(features, weights["output.weight"], train, model.multiplier)
        | {"energy": energies.median(-1).values / len(tables.inverse)}
    )


def _outputs(model: GroupNetwork, point: Tensor, part: Part, added: Tensor | None) -> Tensor:
    outputs = model.apply(point, part.inputs)
    return outputs if added is None else outputs + added


def _signal(
    features: Float[Tensor, "B n K"], top: Float[Tensor, "B M K"], train: Part, multiplier: float
) -> dict[str, Tensor]:
    """G_F = P (Y - F V) V' of equation 2, beside Y~ Y~' F~, and how diagonal F~' F~ is."""
    top = multiplier * top
    signal = -residual(features @ top.mT, train.targets, "theory") @ top
    centred = features - features.mean(1, keepdim=True)
    classes = torch.arange(top.shape[1], device=top.device)
    labels = (train.targets.unsqueeze(-1) == classes).to(features.dtype)
    labels = labels - labels.mean(1, keepdim=True)
    leading = labels @ (labels.mT @ centred)
    size, other = (x.square().sum((1, 2)).sqrt() for x in (signal, leading))
    product = size * other
    cosine = (signal * leading).sum((1, 2)) / torch.where(product > 0, product, 1.0)
    gram = (centred.mT @ centred).abs()
    diagonal = gram.diagonal(dim1=1, dim2=2).sum(-1)
    width = gram.shape[1]
    off = (gram.sum((1, 2)) - diagonal) / max(1, width * (width - 1))
    least = torch.finfo(diagonal.dtype).tiny
    return {"signal": size, "alignment": cosine, "off_diagonal": off / (diagonal / width).clamp_min(least)}

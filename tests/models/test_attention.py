"""The transformer is torch's, and unlike torch's fused one differentiable twice and batched by ``vmap``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optenvs.core import keys_from_seed
from optenvs.core.oracles import hvp
from optenvs.models import Transformer, attend, cross_entropy, loss_and_gradient

DOUBLE = torch.float64
SMALL = {"width": 8, "heads": 2, "layers": 2, "hidden": 6}
MODELS = {
    "decoder of tokens": Transformer((4,), 5, vocabulary=7, **SMALL),
    "encoder of tokens": Transformer((4,), 5, vocabulary=7, causal=False, readout="mean", **SMALL),
    "encoder of numbers": Transformer((4, 3), 5, causal=False, readout="mean", activation="gelu", **SMALL),
    "language model": Transformer((4,), 7, vocabulary=7, readout="all", **SMALL),
}


def instance(model: Transformer, batch: int = 3, m: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    flat = model.draw(keys_from_seed(0, batch), DOUBLE)
    flat = flat + 0.1 * torch.randn(flat.shape, generator=g, dtype=DOUBLE)
    if model.vocabulary:
        x = torch.randint(model.vocabulary, (batch, m, *model.shape), generator=g)
    else:
        x = torch.randn(batch, m, *model.shape, generator=g, dtype=DOUBLE)
    return flat, x, torch.randint(model.classes, (batch, m), generator=g)


class Torchs(nn.Module):
    """The same out of torch's modules, with its parameters in that order."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model, width = model, model.width
        if model.vocabulary:
            self.embedding: nn.Module = nn.Embedding(model.vocabulary, width)
        else:
            self.embedding = nn.Linear(model.shape[1], width)
        self.position = nn.Embedding(model.shape[0], width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, model.heads, model.hidden or 4 * width, 0.0, model.activation, batch_first=True,
                norm_first=True,
            )
            for _ in range(model.layers)
        )  # fmt: skip
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, model.classes)

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[1]
        mask = torch.ones(t, t, dtype=torch.bool).triu(1) if self.model.causal else None
        x = self.embedding(x) + self.position.weight
        for block in self.blocks:
            x = block(x, src_mask=mask)
        if self.model.readout != "all":
            x = x[:, -1] if self.model.readout == "last" else x.mean(1)
        return self.output(self.norm(x))


@pytest.mark.parametrize("name", MODELS)
def test_equals_torchs(name: str) -> None:
    model = MODELS[name]
    flat, x, _ = instance(model)
    found = model.apply(flat, x)
    for row in range(len(flat)):
        theirs = Torchs(model).double()
        nn.utils.vector_to_parameters(flat[row], theirs.parameters())
        assert sum(p.numel() for p in theirs.parameters()) == model.size
        torch.testing.assert_close(found[row], theirs(x[row]))
    shared = model.apply(flat, x[:1])
    torch.testing.assert_close(shared, model.apply(flat, x[:1].expand_as(x)))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    theirs = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(attend(q, k, v, causal), theirs)


def test_a_decoder_sees_nothing_that_comes_later() -> None:
    model = MODELS["language model"]
    flat, x, _ = instance(model)
    other = x.clone()
    other[..., 2:] = (other[..., 2:] + 1) % 7
    before, after = model.apply(flat, x), model.apply(flat, other)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2], after[:, :, 2])


@pytest.mark.parametrize("name", list(MODELS)[:3])
def test_second_derivative_and_vmap(name: str) -> None:
    model = MODELS[name]
    flat, x, y = instance(model)
    vectors = torch.randn(3, 4, model.size, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)

    def products(point: Tensor) -> Tensor:
        return hvp(lambda w: cross_entropy(model.apply(w, x), y), point, vectors)[2]

    with torch.no_grad():
        found = products(flat)
        ahead, behind = (loss_and_gradient(model, flat + s * vectors[:, 1], x, y)[1] for s in (1e-6, -1e-6))
        assert ((ahead - behind) / 2e-6 - found[:, 1]).norm() < 1e-5 * found[:, 1].norm()
        many = torch.func.vmap(products)(torch.stack([flat, flat + 0.1]))
        torch.testing.assert_close(many[1], products(flat + 0.1))
        torch.testing.assert_close(many[0], found)


def test_the_sum_of_two_tokens_is_learned() -> None:
    """Addition modulo 5 with a decoder, by plain gradient descent with momentum, four networks at once."""
    model = Transformer((3,), 5, vocabulary=6, init="normal")
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    x = torch.cat((pairs, torch.full((25, 1), 5)), 1).unsqueeze(0)
    y = (pairs.sum(1) % 5).expand(4, -1)
    flat = model.draw(keys_from_seed(0, 4), torch.float32)
    speed = torch.zeros_like(flat)
    with torch.no_grad():
        for _ in range(150):
            loss, gradient = loss_and_gradient(model, flat, x, y)
            speed = 0.9 * speed + gradient
            flat = flat - 0.02 * speed
    assert loss.max() < 0.05, loss


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformer((4, 3), 5, vocabulary=7), r"expected inputs of shape \(positions,\)"),
        (lambda: Transformer((4,), 5), r"\(positions, features\), or a vocabulary, got \(4,\)"),
        (lambda: Transformer((4,), 5, vocabulary=7, width=10, heads=3), "heads: expected a divisor"),
        (lambda: Transformer((4,), 5, vocabulary=7, readout="first"), "readout: expected one of last"),
        (lambda: Transformer((4,), 5, vocabulary=7, layers=0), "layers: expected a whole number >= 1"),
        (lambda: Transformer((4,), 5, vocabulary=7, norm="batch"), "norm: expected layer or none"),
    ],
)
def test_mistakes_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

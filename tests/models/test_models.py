"""Networks over flat vectors: the numbers of torch's modules, in closed form and by autograd."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optenvs.models import (
    ACTIVATIONS,
    CNN,
    MLP,
    NORMS,
    Logistic,
    Model,
    ResNet,
    accuracy,
    autograd_loss_and_gradient,
    cross_entropy,
    loss_and_gradient,
    make_model,
)

IMAGE = (1, 8, 8)
DENSE = [
    Logistic((5,), 3),
    *(MLP((5,), 3, (7, 4), a, n) for a in ACTIVATIONS for n in NORMS if n != "after"),
]
"""Networks whose gradient is written out."""
OTHER = [
    MLP(IMAGE, 4, (6,)),
    MLP((5,), 3, (7, 4), "relu", "after"),
    MLP((5,), 3, (), "tanh", "after"),
    *(CNN(IMAGE, 4, (3, 5), a) for a in ACTIVATIONS),
    ResNet((3, 16, 16), 4, 18, 2),
    ResNet((3, 8, 8), 4, 34, 2, "elu"),
    ResNet((2, 8, 8), 4, 50, 2, "tanh"),
]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def name(model: Model) -> str:
    fields = [getattr(model, f, "") for f in ("depth", "activation", "norm")]
    return "-".join([type(model).__name__, *(str(f) for f in fields if f)])


def instance(
    model: Model, batch: int = 7, m: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)

    def draw(_: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand((batch, *shape), generator=g, dtype=torch.float64)

    # Scales and shifts away from 1 and 0, so that their places in the formulas are seen.
    flat = model.initial(draw)
    flat = flat + 0.05 * torch.randn(flat.shape, generator=g, dtype=flat.dtype)
    x = torch.randn((batch, m, *model.shape), generator=g, dtype=torch.float64)
    y = torch.randint(0, model.classes, (batch, m), generator=g)
    return flat.to(dtype), x.to(dtype), y


class Cos(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cos()


def module(model: Model) -> nn.Module:
    """The same architecture out of torch's modules, with its parameters in the usual order."""
    act = {
        "relu": nn.ReLU, "lrelu": lambda: nn.LeakyReLU(0.1), "elu": nn.ELU, "selu": nn.SELU,
        "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "cos": Cos,
    }[model.activation]  # fmt: skip
    if isinstance(model, MLP):
        norm = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}.get(model.norm)
        layers: list[nn.Module] = [nn.Flatten()]
        before = int(torch.tensor(model.shape).prod())
        for width in model.widths:
            layers += [nn.Linear(before, width), *([norm(width)] if norm else []), act()]
            layers += [Standardise()] if model.norm == "after" else []
            before = width
        layers.append(nn.Linear(before, model.classes))
        layers += [act(), Standardise()] if model.norm == "after" else []
        return nn.Sequential(*layers).double()
    if isinstance(model, CNN):
        layers, before = [], model.shape[0]
        for width in model.widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), act(), nn.MaxPool2d(2)]
            before = width
        side = model.shape[1] >> len(model.widths)
        last = nn.Linear(before * side * side, model.classes)
        return nn.Sequential(*layers, nn.Flatten(), last).double()
    assert isinstance(model, ResNet)
    return TorchResNet(model, act()).double()


class Standardise(nn.Module):
    """Torch's batch normalisation without scale and shift, but by the unbiased variance."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0) + 1e-4).sqrt()


class TorchBlock(nn.Module):
    def __init__(self, sizes: list[tuple[int, int, int, int]], act: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b, side, stride) in enumerate(sizes):
            layers += [nn.Conv2d(a, b, side, stride, side // 2, bias=False), nn.BatchNorm2d(b)]
            layers += [act] if i < len(sizes) - 1 else []
        self.branch = nn.Sequential(*layers)
        first, last = sizes[0][0], sizes[-1][1]
        stride = max(size[3] for size in sizes)
        self.shortcut = nn.Sequential()
        if stride != 1 or first != last:
            conv = nn.Conv2d(first, last, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(last))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class TorchResNet(nn.Module):
    def __init__(self, model: ResNet, act: nn.Module) -> None:
        super().__init__()
        w = model.width
        stem = nn.Conv2d(model.shape[0], w, 3, padding=1, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(w), act]
        before = w
        for stage, count in enumerate({18: [2] * 4, 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}[model.depth]):
            for i in range(count):
                stride, b = 1 + (stage > 0 and i == 0), w * 2**stage
                if model.depth == 50:
                    sizes = [(before, b, 1, 1), (b, b, 3, stride), (b, 4 * b, 1, 1)]
                else:
                    sizes = [(before, b, 3, stride), (b, b, 3, 1)]
                layers.append(TorchBlock(sizes, act))
                before = sizes[-1][1]
        self.body = nn.Sequential(*layers)
        self.output = nn.Linear(before, model.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.body(x).mean((2, 3)))


@pytest.mark.parametrize("model", [*DENSE, *OTHER], ids=name)
def test_equals_torch_modules(model: Model) -> None:
    flat, x, y = instance(model, batch=3)
    logits = model.apply(flat, x)
    losses, gradients = loss_and_gradient(model, flat, x, y)
    torch.testing.assert_close(losses, cross_entropy(logits, y))
    for row in range(3):
        net = module(model)
        nn.utils.vector_to_parameters(flat[row], net.parameters())
        theirs = net(x[row])
        torch.testing.assert_close(logits[row], theirs, rtol=1e-9, atol=1e-10)
        loss = functional.cross_entropy(theirs, y[row])
        torch.testing.assert_close(losses[row], loss, rtol=1e-9, atol=1e-10)
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in net.parameters()])
        torch.testing.assert_close(gradients[row], grads, rtol=1e-7, atol=1e-9)
        assert accuracy(logits, y)[row] == (theirs.argmax(-1) == y[row]).double().mean()


@pytest.mark.parametrize("model", [DENSE[1], DENSE[3], OTHER[1], OTHER[2], OTHER[4]], ids=name)
def test_networks_may_share_inputs(model: Model) -> None:
    flat, x, _ = instance(model, batch=6)
    groups = x[:2]  # two groups of three networks
    logits = model.apply(flat, groups)
    torch.testing.assert_close(
        logits, model.apply(flat, groups.repeat_interleave(3, 0)), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(model.apply(flat, x[:1]), model.apply(flat, x[:1].expand_as(x)))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("model", DENSE, ids=name)
def test_closed_form_equals_autograd(model: Model, dtype: torch.dtype) -> None:
    flat, x, y = instance(model, dtype=dtype)
    closed = model.closed_form(flat, x, y)
    assert closed is not None and closed[1].is_contiguous()
    for ours, theirs in zip(closed, autograd_loss_and_gradient(model, flat, x, y), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("model", [*DENSE, *OTHER], ids=name)
def test_row_does_not_depend_on_the_batch(model: Model) -> None:
    flat, x, y = instance(model)
    losses, gradients = loss_and_gradient(model, flat, x, y)
    loss, gradient = loss_and_gradient(model, flat[4:5], x[4:5], y[4:5])
    torch.testing.assert_close(losses[4:5], loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients[4:5], gradient, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("model", [DENSE[0], DENSE[1], DENSE[2], DENSE[3], *OTHER[:2], OTHER[-1]], ids=name)
def test_shared_inputs(model: Model) -> None:
    flat, x, y = instance(model)
    y = y[:1].expand(7, -1)
    copies = x[:1].expand_as(x).contiguous()
    expected = loss_and_gradient(model, flat, copies, y)
    for ours, theirs in zip(loss_and_gradient(model, flat, x[:1], y), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(model.apply(flat, x[:1]), model.apply(flat, copies))


SMOOTH = [
    Logistic((5,), 3),
    *(MLP((5,), 3, (4,), "tanh", n) for n in NORMS),
    CNN(IMAGE, 3, (2, 2), "gelu"),
    ResNet((1, 8, 8), 3, 18, 1, "tanh"),
]


@pytest.mark.parametrize("model", SMOOTH, ids=name)
def test_second_derivative(model: Model) -> None:
    flat, x, y = instance(model, batch=2)
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(1)).double()

    def along(point: Tensor) -> Tensor:
        return (loss_and_gradient(model, point, x, y)[1] * direction).sum()

    leaf = flat.clone().requires_grad_()
    hvp = torch.autograd.grad(along(leaf), leaf)[0]
    step = 1e-6 * direction
    ahead, behind = (loss_and_gradient(model, flat + s, x, y)[1] for s in (step, -step))
    assert ((ahead - behind) / 2e-6 - hvp).norm() < 1e-5 * hvp.norm()
    torch.testing.assert_close(torch.func.grad(along)(flat), hvp)
    if model.closed_form(flat, x, y) is not None:  # it is a differentiable function, too

        def closed(point: Tensor) -> Tensor:
            return (model.closed_form(point, x, y)[1] * direction).sum()

        torch.testing.assert_close(torch.func.grad(closed)(flat), hvp)


@pytest.mark.parametrize("model", SMOOTH, ids=name)
@pytest.mark.parametrize("recorded", [False, True])
def test_vmap(model: Model, recorded: bool) -> None:
    flat, x, y = instance(model, batch=2)
    points = torch.stack([flat, flat + 0.1, flat - 0.1])
    inputs = torch.stack([x, x + 0.1, x - 0.1])
    points.requires_grad_(recorded)

    def both(point: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        return loss_and_gradient(model, point, data, y)

    cases = [((0, 0), points, inputs), ((0, None), points, x), ((None, 0), flat, inputs)]
    for dims, point, data in cases:
        losses, gradients = torch.func.vmap(both, in_dims=dims)(point, data)
        rows = [
            both(*(v if d is None else v[i] for v, d in zip((point, data), dims, strict=True)))
            for i in range(3)
        ]
        torch.testing.assert_close(losses, torch.stack([r[0] for r in rows]))
        torch.testing.assert_close(gradients, torch.stack([r[1] for r in rows]))
        assert gradients.requires_grad == point.requires_grad


@pytest.mark.parametrize("model", SMOOTH, ids=name)
def test_no_graph_unless_asked(model: Model) -> None:
    flat, x, y = instance(model, batch=2)
    before = flat.clone(), x.clone(), y.clone()
    plain = loss_and_gradient(model, flat, x, y)
    assert not plain[1].requires_grad
    leaf = flat.clone().requires_grad_()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            quiet = loss_and_gradient(model, leaf, x, y)
        assert not quiet[0].requires_grad and not quiet[1].requires_grad
        torch.testing.assert_close(quiet[1], plain[1])
    assert loss_and_gradient(model, leaf, x, y)[1].requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, (flat, x, y), strict=True))


@pytest.mark.parametrize("model", [*DENSE[:4], *OTHER[:2], *OTHER[-3:]], ids=name)
def test_layout(model: Model) -> None:
    flat, _, _ = instance(model, batch=2)
    assert flat.shape == (2, model.size)
    parts = model.unflatten(flat)
    assert list(parts) == [slot.name for slot in model.layout]
    assert all(parts[s.name].shape == (2, *s.shape) for s in model.layout)
    assert torch.equal(model.flatten(parts), flat)
    assert hash(model) == hash(dataclasses.replace(model)) and model == dataclasses.replace(model)


def test_initial_is_that_of_torch() -> None:
    model = make_model("mlp", (50,), 300, widths=(400,), norm="layer")
    g = torch.Generator().manual_seed(0)
    p = model.unflatten(model.initial(lambda _, s: torch.rand((2, *s), generator=g)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(50, 400), nn.LayerNorm(400), nn.ReLU(), nn.Linear(400, 300))
    for ours, theirs in zip(p.values(), net.parameters(), strict=True):
        assert ours[0].shape == theirs.shape
        assert abs(ours.mean() - theirs.mean()) <= 0.01
        assert abs(ours.std() - theirs.std()) <= 0.1 * theirs.std()
        assert abs(ours.abs().max() - theirs.abs().max()) <= 0.02 * theirs.abs().max()
    assert model.initial(lambda _, s: torch.rand((2, *s)).double()).dtype == torch.float64


@pytest.mark.parametrize(("depth", "size"), [(18, 11_173_962), (34, 21_282_122), (50, 23_520_842)])
def test_resnet_sizes(depth: int, size: int) -> None:
    assert make_model("resnet", (3, 32, 32), 10, depth=depth).size == size


def test_extreme_logits() -> None:
    logits = torch.tensor([[[1e4, 0.0], [0.0, 1e4]], [[-1e4, 0.0], [0.0, 0.0]]])
    targets = torch.tensor([[0, 0], [1, 0]])
    expected = torch.stack([functional.cross_entropy(z, t) for z, t in zip(logits, targets, strict=True)])
    torch.testing.assert_close(cross_entropy(logits, targets), expected)


def test_diverged_networks_say_so() -> None:
    model = MLP((5,), 3, (4,))
    flat, x, y = instance(model, batch=2)
    flat[0] = torch.nan
    loss, gradient = loss_and_gradient(model, flat, x, y)
    assert loss.isnan().tolist() == [True, False] and gradient[0].isnan().any()
    assert gradient[1].isfinite().all()


def test_make_model() -> None:
    assert make_model("logistic", IMAGE, 10, widths=(32,)) == Logistic(IMAGE, 10)
    assert make_model("mlp", IMAGE, 10) == MLP(IMAGE, 10, (32,))
    assert make_model("cnn", IMAGE, 10, widths=[4]) == CNN(IMAGE, 10, (4,))
    assert make_model("resnet", (3, 32, 32), 10, widths=(16,)).width == 16
    assert make_model(MLP(IMAGE, 3)) == MLP(IMAGE, 3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("mpl", IMAGE, 10), "expected one of logistic"),
        (("mlp", IMAGE, 1), "classes"),
        (("mlp", IMAGE, 10, (4,), "swish"), "activation: expected one of relu"),
        (("mlp", IMAGE, 10, (4,), "relu", "group"), "norm: expected one of none"),
        (("cnn", (64,), 10), "expected images"),
        (("cnn", IMAGE, 10, (1, 1, 1, 1)), "do not fit"),
        (("resnet", (3, 32, 32), 10, (4, 4)), "one base width"),
        (("resnet", (3, 32, 32), 10, None, "relu", "none", 20), "depth must be"),
    ],
)
def test_mistakes_are_named(arguments: tuple, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_model(*arguments)

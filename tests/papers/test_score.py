"""The normaliser of learned-optimizer research, speed-up over tuned Adam (check C9), as it is shipped."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import agents
import optenvs
from optenvs.scoring import tables
from optenvs.scoring.normaliser import counted, smooth
from optenvs.scoring.splits import published

pytestmark = pytest.mark.paper


SHIPPED = sorted(path.stem for path in tables.shipped("quadratics").parent.iterdir())


@pytest.mark.parametrize("name", SHIPPED)
def test_monotone_and_worst(name: str) -> None:
    for scale in tables.table_of(published(name)).scales:
        assert len(scale.envelope) == 512
        assert (scale.envelope.diff() <= 0).all()
        first, last = scale.envelope[0].item(), scale.envelope[-1].item()
        assert last < first
        losses = torch.linspace(last - 0.1 * (first - last), first + 0.1 * (first - last), 5000)
        steps = scale.steps(losses.double())
        assert (steps.diff() <= 0).all()
        assert steps[0] == scale.length and steps[-1] == 0
        worst = torch.tensor([torch.nan, torch.inf], dtype=torch.float64)
        assert scale.steps(worst).tolist() == [0, 0]


@pytest.mark.parametrize("name", SHIPPED)
def test_adams_own_envelope_is_the_identity(name: str) -> None:
    """Within a cell; where it stands still, the identity up to the beginning of the plateau."""
    for scale in tables.table_of(published(name)).scales:
        envelope = scale.envelope
        place = torch.arange(len(envelope)) * scale.cell
        falls = torch.cat((torch.ones(1, dtype=torch.bool), envelope.diff() < 0))
        begins = torch.where(falls, place, 0.0).cummax(0).values
        found = scale.steps(envelope)
        assert (found - begins).abs().max() <= scale.cell
        assert (found[falls] - place[falls]).abs().max() <= scale.cell
        assert falls.sum() > 20  # it is no table of one plateau


def test_tuned_adam_scores_one() -> None:
    split = published("quadratics")
    table = tables.table_of(split)
    tasks = split.lifetimes(split.steps, "float64", "cpu")
    for task, scale, rate, finals in zip(tasks, table.scales, table.tuned, table.finals, strict=True):
        run = optenvs.rollout(task, agents.Adam(lr=rate), keys=split.keys("cpu"))
        losses, failed = counted(run, split.steps, 1)
        end = smooth(losses.mean(1))[-1]
        assert not failed.any()
        assert end.item() == pytest.approx(finals.min().item(), rel=1e-3)
        share = scale.steps(end).item() / split.steps
        lower = scale.at(torch.tensor(split.steps - scale.cell)) <= end  # some rate had been as low before
        assert 0.5 < share <= 1 + scale.cell / split.steps
        assert lower or share >= 1 - scale.cell / split.steps


def test_a_table_comes_out_again() -> None:
    """The first shape class of ``quadratics``, from nothing."""
    split = published("quadratics")
    first = dataclasses.replace(split, split=dataclasses.replace(split.split, tasks=split.split.tasks[:1]))
    made, kept = tables.computed(first), tables.table_of(split)
    assert torch.equal(made.rates, kept.rates) and made.length == kept.length
    # rounding of other machines grows where Adam has all but arrived
    floor = 1e-6 * kept.envelopes[0, 0].item()
    assert torch.allclose(made.envelopes[0], kept.envelopes[0], rtol=1e-3, atol=floor)
    assert torch.allclose(made.finals[0], kept.finals[0], rtol=1e-3, atol=floor)
    scale, early = kept.scales[0], kept.envelopes[0] > floor
    there = scale.steps(kept.envelopes[0])
    assert (made.scales[0].steps(kept.envelopes[0]) - there)[early].abs().max() <= 2 * scale.cell


def test_untuned_adam_is_told_from_tuned() -> None:
    """Pitfall 10: the default rate is no baseline."""
    assert optenvs.score("adam", "quadratics").speedup < 0.3

"""Sessions: a person's answers move the agent, are kept, taken back, gone on with and replayed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from persons import ROUNDS, probability, settings, taste

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.sealed import UNSEALED, sealed
from optenvs.core.struct import tensors
from optenvs.human.rounds import Round
from optenvs.human.session import OutOfDate, Session, open_session
from optenvs.human.store import FILE, Record, SessionError, read


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    left, right = tensors(one), tensors(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def content(session: Session) -> tuple[Any, ...]:
    """All that must not change by a mistake."""
    return session.rounds[:], session.clicks, session.moment, session.record.to_json()


def refuses(session: Session, call: Any, message: str, error: type[SessionError] = SessionError) -> None:
    before = content(session)
    with pytest.raises(error, match=message):
        call()
    assert all(a == b for a, b in zip(content(session)[1:], before[1:], strict=True))
    assert [id(turn) for turn in session.rounds] == [id(turn) for turn in before[0]]


def test_a_person_leads_the_agent_to_what_they_want_and_the_session_is_replayed(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    first = probability(session)
    states = [session.round.state]
    while not session.over:
        if session.round.number == 3:
            session.none_better()
        else:
            for index in taste(session):
                session.click(index)
        states.append(session.round.state)
    assert len(session.record.said) == ROUNDS
    assert first < 0.1 < 0.8 < probability(session)
    run = optenvs.replay_session(tmp_path)
    assert same(run.state, session.round.state)
    assert [float(merit) for merit in run.merit[:, 0]] == [float(state.merit) for state in states]
    for number, state in enumerate(states):
        assert torch.equal(run.recorded["point"][number], state.observation["point"])
        assert torch.equal(run.recorded["order"][number], state.observation["order"])
    assert (run.recorded["order"][3] == -1).all()
    assert run.calls["points"][-1].item() == session.round.state.calls["points"].item()


def test_a_session_of_few_rounds_and_one_of_none_are_replayed(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    assert same(optenvs.replay_session(tmp_path / FILE).state, session.round.state)
    session.answer(taste(session))
    assert same(optenvs.replay_session(tmp_path / FILE).state, session.round.state)


def test_it_goes_on_where_it_was_and_only_the_clicks_of_the_round_are_lost(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    for _ in range(3):
        session.answer(taste(session))
    session.none_better()
    index = taste(session)[0]
    session.click(index)  # the round asks for three
    assert session.round.named == 3
    again = open_session(None, tmp_path)
    assert len(again.rounds) == 5
    assert again.clicks == ()
    assert again.record == session.record
    assert again.round.display == session.round.display
    assert torch.equal(again.round.pictures, session.round.pictures)
    again.answer(taste(again))
    for number in range(5):
        assert same(again.rounds[number].state, session.rounds[number].state)


def test_the_order_on_the_screen_is_shuffled_anew_every_round_and_always_the_same(tmp_path: Path) -> None:
    one, other = Session(Record(settings())), Session(Record(settings()))
    displays = []
    for _ in range(6):
        assert one.round.display == other.round.display
        assert sorted(one.round.display) == list(range(len(one.round.points)))
        displays.append(one.round.display)
        for session in (one, other):
            session.none_better()
    assert len(set(displays)) == 6
    assert sum(display == tuple(sorted(display)) for display in displays) == 0
    assert Session(Record(settings(seed=5))).round.display != displays[0]


def test_choosing_by_place_is_choosing_the_point_there() -> None:
    session = Session(Record(settings()))
    display = session.round.display
    for slot in (5, 0):
        session.choose(slot)
    assert session.clicks == (display[5], display[0])
    session.choose(2)
    assert session.record.said[0].ranking == (display[5], display[0], display[2])


def test_clicks_are_taken_back_one_by_one() -> None:
    session = Session(Record(settings()))
    refuses(session, session.undo_click, "^undo: nothing has been clicked in this round$")
    session.click(4)
    session.click(2)
    session.undo_click()
    assert session.clicks == (4,)
    session.click(2)
    session.click(7)
    assert session.record.said[0].ranking == (4, 2, 7)
    refuses(session, session.undo_click, "^undo: nothing")


def test_whole_rounds_are_taken_back_on_disk_too(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    refuses(session, session.undo_round, "^undo: this is the first round$")
    rounds: list[Round] = [session.round]
    for _ in range(4):
        session.answer(taste(session))
        rounds.append(session.round)
    session.click(0)
    assert session.clicks == (0,)
    session.undo_round()
    assert session.clicks == ()
    session.undo_round()
    session.undo_round()
    assert session.round is rounds[1]
    assert session.record.undone == 3
    assert open_session(None, tmp_path).record == session.record
    # the same answers lead to the same round, others elsewhere
    session.answer(taste(session))
    assert same(session.round.state, rounds[2].state)
    session.undo_round()
    session.none_better()
    assert not same(session.round.state, rounds[2].state)
    assert same(optenvs.replay_session(tmp_path).state, session.round.state)


def test_the_last_round_can_be_taken_back_and_no_more_is_asked_after_it() -> None:
    session = Session(Record(settings(keywords=settings().keywords | {"budget": {"ranking": 3}})))
    session.answer(taste(session))
    session.answer(taste(session))
    assert session.over
    refuses(session, lambda: session.click(0), "^the budget is spent")
    refuses(session, session.none_better, "^the budget is spent")
    # what the last answer has taught is shown
    assert len(session.best()) == 3
    assert not torch.equal(session.best()[-1], session.best()[0])
    session.undo_round()
    assert not session.over


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ([0, 1], r"^ranking: expected 3 of 8 points, got 2: \[0, 1\]$"),
        ([0, 1, 2, 3], r"^ranking: expected 3 of 8 points, got 4"),
        ([0, 1, 1], r"^ranking: expected different points, got \[0, 1, 1\]$"),
        ([0, 1, 8], r"^ranking: expected points 0 .. 7, got 8$"),
        ([0, -1, 2], r"^ranking: expected points 0 .. 7, got -1$"),
        ([0, 1.0, 2], r"^ranking: expected whole numbers, got 1.0$"),
        ([0, True, 2], r"^ranking: expected whole numbers, got True$"),
    ],
)
def test_a_wrong_ranking_changes_nothing(ranking: Any, message: str, tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    session.click(3)
    before = (tmp_path / FILE).read_bytes()
    refuses(session, lambda: session.answer(ranking), message)
    assert (tmp_path / FILE).read_bytes() == before


def test_the_same_point_twice_and_a_place_that_is_none() -> None:
    session = Session(Record(settings()))
    session.click(3)
    refuses(session, lambda: session.click(3), r"^click: expected different points, got \[3, 3\]$")
    refuses(session, lambda: session.choose(8), "^picture: expected one of the 8 shown, got number 9$")
    refuses(session, lambda: session.choose(-1), "^picture: expected one of the 8 shown, got number 0$")


def test_what_comes_from_an_old_page_is_refused() -> None:
    session = Session(Record(settings()))
    old = session.moment
    session.click(1, old)
    calls = (
        lambda: session.click(2, old),
        lambda: session.choose(2, old),
        lambda: session.none_better(old),
        lambda: session.undo_click(old),
        lambda: session.undo_round(old),
        lambda: session.answer([0, 1, 2], old),
    )
    for call in calls:
        refuses(session, call, "nothing was changed", OutOfDate)
    # as many clicks as before, yet another moment
    session.undo_click()
    refuses(session, lambda: session.click(2, old), "nothing was changed", OutOfDate)
    session.click(2, session.moment)


def test_a_failure_to_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(settings(), tmp_path)
    session.answer(taste(session))
    before, on_disk = content(session), (tmp_path / FILE).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    ranking = taste(session)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        for call in (lambda: session.answer(ranking), session.undo_round):
            with pytest.raises(OSError, match="No space left"):
                call()
    assert content(session)[1:] == before[1:]
    assert len(session.rounds) == 2
    assert (tmp_path / FILE).read_bytes() == on_disk
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    session.answer(ranking)
    assert len(open_session(None, tmp_path).record.said) == 2


def test_two_that_go_on_with_one_session(tmp_path: Path) -> None:
    open_session(settings(), tmp_path)
    one, other = open_session(None, tmp_path), open_session(None, tmp_path)
    one.answer(taste(one))
    refuses(other, other.none_better, "somebody else has changed it")
    assert len(open_session(None, tmp_path).record.said) == 1


def test_other_settings_than_the_folder_has(tmp_path: Path) -> None:
    open_session(settings(), tmp_path)
    assert open_session(settings(), tmp_path).settings == settings()
    with pytest.raises(ValueError, match="^seed: the session at .* has 0, got 5$"):
        open_session(settings(seed=5), tmp_path)
    with pytest.raises(FileNotFoundError, match="^no session at"):
        open_session(None, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="^no session at"):
        optenvs.replay_session(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"format": "other"}', '{"format": ["optenvs', pytest.param("[" * 100_000, id="deep")],
)
def test_a_file_that_is_no_session(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    for call in (lambda: open_session(settings(), tmp_path), lambda: optenvs.replay_session(tmp_path)):
        with pytest.raises(ValueError, match="not a readable session"):
            call()
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


def changed(folder: Path, change: Any) -> None:
    """Somebody who changes a session and takes care of its checksum."""
    file = json.loads((folder / FILE).read_text(encoding="utf-8"))
    change(file)
    file["sha256"] = UNSEALED
    (folder / FILE).write_bytes(sealed(json.dumps(file).encode()))


def test_a_flipped_bit_is_always_refused(tmp_path: Path) -> None:
    session = open_session(settings(question='is "sha256": "0" one?'), tmp_path)
    session.answer(taste(session))
    path = tmp_path / FILE
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{path}: not a readable session"):
            read(path)
    path.write_bytes(whole)
    assert read(path) == session.record


def test_a_session_from_before_there_were_checksums_is_gone_on_with(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    session.answer(taste(session))
    file = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    del file["sha256"]
    old = json.dumps(file | {"format": "optenvs-ranking-session-1"})
    (tmp_path / FILE).write_text(old, encoding="utf-8")
    assert open_session(None, tmp_path).record == session.record
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["format"] == "optenvs-ranking-session-2"


def test_a_session_is_readable_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        open_session(settings(), tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o644


def test_answers_to_other_pictures_are_not_believed(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    for _ in range(3):
        session.answer(taste(session))
    changed(tmp_path, lambda file: file["rounds"][0]["ranking"].reverse())
    with pytest.raises(ValueError, match="^round 2: its pictures are not those that were ranked"):
        optenvs.replay_session(tmp_path)
    changed(tmp_path, lambda file: file.update(seed=9))
    with pytest.raises(ValueError, match="^round 1: its pictures"):
        open_session(None, tmp_path)


def test_answers_in_a_file_that_do_not_fit(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    session.answer(taste(session))
    changed(tmp_path, lambda file: file["rounds"][0].update(ranking=[0, 0, 1]))
    with pytest.raises(ValueError, match=r"^round 1: expected different points, got \[0, 0, 1\]$"):
        optenvs.replay_session(tmp_path)


def test_a_file_with_more_rounds_than_its_budget(tmp_path: Path) -> None:
    session = open_session(settings(), tmp_path)
    session.answer(taste(session))
    session.answer(taste(session))
    changed(tmp_path, lambda file: file["keywords"].update(budget={"ranking": 2}))
    with pytest.raises(ValueError, match="^round 2: its pictures"):
        open_session(None, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"environment": "optenvs/Quadratic-v0", "keywords": {}}, TypeError, "it ranks nothing"),
        ({"environment": "optenvs/Ranking-v0", "keywords": {}}, TypeError, "its points have no pictures"),
        ({"agent": "adam", "hyperparameters": {}}, OracleMismatch, "Adam needs the oracle"),
        ({"keywords": {"shown": 4, "ranked": 5}}, ValueError, "^ranked: expected at most the 4 points shown"),
        ({"keywords": {"noise": "flips"}}, ValueError, "^noise: expected 'none' beside rankings"),
        ({"hyperparameters": {"momentun": 1}}, TypeError, "momentun"),
    ],
)
def test_settings_that_cannot_be_used_write_nothing(
    changes: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "session"
    with pytest.raises(error, match=message):
        open_session(settings(**changes), folder)
    assert not folder.exists()


@pytest.mark.parametrize("recommend", ["agent", "top"])
@pytest.mark.parametrize("name", agents.list_agents(needs="ranking"))
def test_every_agent_of_rankings_can_ask_a_person(name: str, recommend: str, tmp_path: Path) -> None:
    keywords = settings().keywords | {"recommend": recommend}
    session = open_session(settings(agent=name, hyperparameters={}, keywords=keywords), tmp_path)
    for number in range(6):
        if number % 3 == 1:
            session.none_better()
        else:
            session.answer(taste(session))
    assert same(optenvs.replay_session(tmp_path).state, session.round.state)
    assert len(session.best()) == 7
    assert all(bool(turn.recommended.isfinite().all()) for turn in session.rounds)


def test_where_none_is_better_the_agent_stays_and_shows_others() -> None:
    session = Session(Record(settings()))
    start = session.round.recommended
    seen = []
    for _ in range(3):
        points = session.round.points
        assert (points != start).any(1).all()  # no copies of where it is, as along no direction
        seen.append(points)
        session.none_better()
        assert torch.equal(session.round.recommended, start)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    # a search in which none is better
    session.answer(taste(session))
    assert session.round.named == 1
    session.none_better()
    assert torch.equal(session.round.recommended, start)

"""The page over HTTP: who may see it, what a form may do, and a server that is killed."""

from __future__ import annotations

import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from page_server import served
from persons import settings, taste
from typer.testing import CliRunner

import optenvs
from optenvs.bench.cli import main
from optenvs.human.page import PageServer, png
from optenvs.human.session import Session, open_session
from optenvs.human.store import FILE, Record, read

LONG = 60.0


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


def ask(
    address: str,
    path: str = "",
    form: dict[str, Any] | None = None,
    method: str | None = None,
    **headers: str,
) -> Reply:
    """One request; ``path`` is relative to the address of the page unless it begins with a slash."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=LONG)
    try:
        body = None if form is None else urlencode(form)
        method = method or ("GET" if form is None else "POST")
        path = path if path.startswith("/") else where.path + path
        connection.request(
            method, path, body, {"Content-Type": "application/x-www-form-urlencoded"} | headers
        )
        reply = connection.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read().decode())
    finally:
        connection.close()


@pytest.fixture
def session() -> Session:
    return Session(Record(settings()))


@pytest.fixture
def address(session: Session) -> Iterator[str]:
    with served(session) as where:
        yield where


def message(reply: Reply) -> str:
    found = re.search(r'<p id="message" role="alert">(.*?)</p>', reply.text)
    return found[1] if found else ""


def test_the_page_shows_the_round_and_tells_the_order_of_the_agent_to_nobody(
    session: Session, address: str
) -> None:
    reply = ask(address)
    assert reply.status == 200
    assert "Round 1 of 12" in reply.text
    assert "1 picture\n" in reply.text
    assert "Click the best 3" in reply.text
    shown = re.findall(r'value="(\d)" aria-label="picture (\d)">\s*<img src="(data:[^"]+)"', reply.text)
    assert [(int(slot), int(label)) for slot, label, _ in shown] == [(i, i + 1) for i in range(8)]
    pictures = [png(session.round.pictures[index]) for index in session.round.display]
    assert [image for *_, image in shown] == pictures
    assert pictures != [png(picture) for picture in session.round.pictures]


def test_what_a_browser_is_told(address: str) -> None:
    reply = ask(address)
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "same-origin"
    # nothing is fetched from elsewhere
    for text in (reply.text, ask(address, "rank.css").text, ask(address, "rank.js").text):
        assert not re.search(r"https?://|//[a-z]+\.", text)
    assert ask(address, "rank.css").headers["content-type"].startswith("text/css")
    assert ask(address, "rank.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_this_machine_and_only_by_the_address(method: str, session: Session, address: str) -> None:
    port = urlsplit(address).port
    form = {"picture": 0, "moment": 0} if method == "POST" else None
    path = "click" if method == "POST" else ""
    before = session.moment
    for host in (
        "example.org",
        f"example.org:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"localhost.example:{port}",
    ):
        assert ask(address, path, form, Host=host).status == 403
    for origin in ("null", "http://example.org", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        assert ask(address, path, form, Origin=origin).status == 403
    for secret in ("/", "/wrong/", f"/{'x' * 22}/", "/rank.css", f"/{FILE}", "//"):
        assert ask(address, secret + path, form).status == 403
    assert session.moment == before
    good = ask(address, path, form, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")
    assert good.status == (303 if method == "POST" else 200)
    assert session.moment == before + (method == "POST")


def test_the_secret_is_new_every_time_and_the_socket_is_of_loopback(session: Session) -> None:
    with PageServer(session) as one, PageServer(session) as other:
        assert urlsplit(one.address).path != urlsplit(other.address).path
        assert len(urlsplit(one.address).path) > 20
        for server in (one, other):
            assert server._socket.getsockname()[0] == "127.0.0.1"
        port = urlsplit(one.address).port
        assert port is not None
        with pytest.raises(OSError, match=rf"^port {port} of 127.0.0.1 cannot be used"):
            PageServer(session, port)


def test_clicks_undo_and_none_better(session: Session, address: str) -> None:
    display = session.round.display
    for moment, slot in enumerate((6, 2)):
        reply = ask(address, "click", {"picture": slot, "moment": moment})
        assert (reply.status, reply.headers["location"]) == (303, urlsplit(address).path)
    assert session.clicks == (display[6], display[2])
    page = ask(address).text
    assert re.findall(r'class="rank">(\d)<', page) == ["2", "1"]  # in the order of the screen
    assert ask(address, "undo-click", {"moment": 2}).status == 303
    assert session.clicks == (display[6],)
    assert ask(address, "none", {"moment": 3}).status == 303
    assert session.record.said[0].ranking == ()
    assert ask(address, "undo-round", {"moment": 4}).status == 303
    assert session.record.said == ()
    assert "Round 1 of 12" in ask(address).text


def test_a_form_that_is_sent_twice_and_one_of_an_old_page(session: Session, address: str) -> None:
    form = {"picture": 1, "moment": 0}
    assert ask(address, "click", form).status == 303
    again = ask(address, "click", form)
    assert again.status == 409
    assert "nothing was changed" in message(again)
    assert 'class="rank">1<' in again.text  # with what holds now
    for path in ("click", "none", "undo-click", "undo-round"):
        assert ask(address, path, form).status == 409
    assert len(session.clicks) == 1
    session.undo_click()
    session.answer(taste(session))
    over = ask(address, "click", form)  # to a round that is over
    assert over.status == 409
    assert len(session.record.said) == 1
    assert session.clicks == ()


@pytest.mark.parametrize(
    ("path", "form", "told"),
    [
        ("click", {"picture": 8, "moment": 0}, "picture: expected one of the 8 shown, got number 9"),
        ("click", {"picture": "two", "moment": 0}, "picture: expected a whole number, got &#39;two&#39;"),
        ("click", {"picture": "-1", "moment": 0}, "picture: expected a whole number"),
        ("click", {"picture": "<b>", "moment": 0}, "got &#39;&lt;b&gt;&#39;"),
        ("click", {"moment": 0}, "picture: expected a whole number, got &#39;&#39;"),
        ("click", {"picture": 0}, "moment: expected a whole number"),
        ("none", {}, "moment: expected a whole number"),
        ("undo-click", {"moment": 0}, "undo: nothing has been clicked"),
        ("undo-round", {"moment": 0}, "undo: this is the first round"),
        ("click", {"picture": "0" * 2000, "moment": 0}, "form: expected at most 1000 bytes"),
    ],
)
def test_bad_forms(path: str, form: dict[str, Any], told: str, session: Session, address: str) -> None:
    reply = ask(address, path, form)
    assert reply.status == 400
    assert told in message(reply)
    assert session.moment == 0
    assert session.record.said == ()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\nHost: HERE\r\n\r\n", b"400"),
        (b"GET foo HTTP/1.1\r\nHost: HERE\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST PATHclick HTTP/1.1\r\nHost: HERE\r\nContent-Length: 500\r\n\r\npicture=1", b""),  # and gone
    ],
)
def test_what_no_browser_sends_is_answered_and_not_told(
    sent: bytes, status: bytes, address: str, session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    where = urlsplit(address)
    request = sent.replace(b"HERE", where.netloc.encode()).replace(b"PATH", where.path.encode())
    with socket.create_connection((where.hostname, where.port), timeout=LONG) as line:
        line.sendall(request)
        if status:
            assert line.makefile("rb").readline().split()[1] == status
    assert ask(address).status == 200  # it has dealt with the other by now
    assert session.clicks == ()
    assert capfd.readouterr() == ("", "")


def test_the_same_picture_twice(session: Session, address: str) -> None:
    ask(address, "click", {"picture": 3, "moment": 0})
    reply = ask(address, "click", {"picture": 3, "moment": 1})
    assert reply.status == 400
    assert "expected different points" in message(reply)
    assert len(session.clicks) == 1


def test_what_is_not_there(address: str) -> None:
    assert ask(address, "else").status == 404
    assert ask(address, "../session.py").status in (403, 404)
    assert ask(address, "click").status == 405
    assert ask(address, "", {"moment": 0}).status == 405


def test_a_full_disk_is_told_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(settings(), tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with served(session) as address:
        with monkeypatch.context() as patch:
            patch.setattr("optenvs.human.store.os.replace", full)
            reply = ask(address, "none", {"moment": 0})
        assert reply.status == 500
        assert "the answer could not be kept" in message(reply)
        assert ask(address, "none", {"moment": 0}).status == 303
    assert len(read(tmp_path).said) == 1


def test_the_end_and_the_export(tmp_path: Path) -> None:
    session = open_session(settings(keywords=settings().keywords | {"budget": {"ranking": 3}}), tmp_path)
    with served(session) as address:
        session.answer(taste(session))
        session.answer(taste(session))
        page = ask(address).text
        assert "Finished after 2 rounds" in page
        assert 'name="picture"' not in page
        assert ask(address, "none", {"moment": session.moment}).status == 400
        export = ask(address, FILE)
    assert f'filename="{FILE}"' in export.headers["content-disposition"]
    assert json.loads(export.text)["rounds"][0]["ranking"] == list(session.record.said[0].ranking)
    file = tmp_path / "exported.json"
    file.write_text(export.text, encoding="utf-8")
    assert optenvs.replay_session(file).state.merit.item() == session.round.state.merit.item()


# The command ---------------------------------------------------------------------------------------


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``optenvs rank`` as a process, and the address that it prints."""
    command = [sys.executable, "-m", "optenvs.bench.cli", "rank", "--no-browser", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        assert process.stdout is not None
        try:
            lines, until = [], time.monotonic() + LONG
            while not (lines and lines[-1].startswith("page: ")):
                ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
                line = process.stdout.readline() if ready else ""
                assert line, (lines, process.poll(), process.poll() is not None and process.communicate())
                lines.append(line)
            yield process, lines[-1].split()[1]
        finally:
            process.kill()


def test_a_server_that_is_killed_goes_on_with_the_round(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    with started("--session", str(folder), "--seed", "3", "--rounds", "9", "--set", "shown=5") as (
        one,
        address,
    ):
        assert ask(address, "none", {"moment": 0}).status == 303
        assert ask(address, "click", {"picture": 4, "moment": 1}).status == 303
        before = ask(address).text
        one.kill()
        one.wait(LONG)
    with started("--session", str(folder)) as (other, again):
        after = ask(again).text
        assert again != address
        assert ask(again, urlsplit(address).path).status == 403  # the old tab is told
        images = [re.findall(r'<img src="(data:[^"]+)"', text) for text in (before, after)]
        assert images[0] == images[1]
        assert "Round 2 of 9" in after
        assert ('class="rank">1<' in before, 'class="rank">1<' in after) == (True, False)
        other.send_signal(signal.SIGINT)
        output, errors = other.communicate(timeout=LONG)
    assert (other.returncode, output, errors) == (0, "ended; the same command goes on from here\n", "")
    assert [said.ranking for said in read(folder).said] == [()]


def test_a_server_that_a_shell_started_in_the_background_ends_likewise(tmp_path: Path) -> None:
    def ignore() -> None:  # as such a shell does
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    folder = tmp_path / "session"
    with started("--session", str(folder), preexec_fn=ignore) as (process, address):
        assert ask(address).status == 200
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONG)
    assert (process.returncode, output, errors) == (0, "ended; the same command goes on from here\n", "")


def mistake(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["rank", "--no-browser", *arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


def test_without_the_extra_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "optenvs.human.page")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'optenvs[human]'" in mistake("--session", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_mistakes_on_the_command_line_are_one_line(tmp_path: Path) -> None:
    at = ("--session", str(tmp_path / "new"))
    assert "it ranks nothing" in mistake("Quadratic", *at, "--set", "shown=3")
    assert "no pictures" in mistake("Ranking", *at)
    assert "did you mean 'zo_ranksgd'" in mistake("--agent", "zo_ranksg", *at)
    assert "--param: expected KEY=VALUE, got 'mu'" in mistake("--param", "mu", *at)
    assert "'mux'; did you mean 'mu'" in mistake("--param", "mux=1", *at)
    assert "ranked: expected at most the 2 points shown, got 3" in mistake("--set", "shown=2", *at)
    assert "budget is given already" in mistake("--rounds", "3", "--set", "budget=9", *at)
    assert not (tmp_path / "new").exists()
    open_session(settings(), tmp_path)
    kept = ("--session", str(tmp_path))
    before = (tmp_path / FILE).read_bytes()
    assert "seed: the session at" in mistake("--seed", "8", *kept)
    assert "keywords: the session at" in mistake("--set", "shown=9", *kept)
    assert "keywords: the session at" in mistake("--rounds", "99", *kept)
    assert "hyperparameters: the session at" in mistake("--param", "mu=0.1", *kept)
    assert "environment: the session at" in mistake("Ranking", *kept)
    assert (tmp_path / FILE).read_bytes() == before

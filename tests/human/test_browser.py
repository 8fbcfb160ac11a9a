"""The page in headless Chromium: a scripted person sees pictures, clicks, errs, leaves and comes back.

The browser is that of ``OPTENVS_CHROMIUM``, or a Chromium on the path; without one these tests are skipped.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from page_server import served
from persons import probability, settings
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import optenvs
from optenvs.envs.ranking.diffusion import judge
from optenvs.human.session import Session, open_session

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PROGRAM = os.environ.get("OPTENVS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
WANTED = 3
# it is to call nobody, and the tests may run as root
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium: install chromium-headless-shell, or set OPTENVS_CHROMIUM"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS))
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's own browser, in which nothing goes wrong unseen and nothing is fetched from elsewhere."""
    with browser.new_context() as made:
        made.set_default_timeout(10_000)
        wrong: list[str] = []
        made.on("console", lambda message: wrong.append(message.text))
        made.on("weberror", lambda error: wrong.append(str(error.error)))
        made.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
        asked: set[str | None] = set()
        yield made
        refused = [text for text in wrong if "409 (Conflict)" not in text]  # that tests provoke
        assert refused == []
        assert asked <= {"127.0.0.1", None}  # None: pictures in the page itself


def picture(address: str | None) -> np.ndarray:
    """The pixels of an image of the page."""
    assert address is not None
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def likes(page: Page, session: Session) -> list[int]:
    """How somebody who wants to see a digit ranks what is on the screen: places, the best first."""
    images = [picture(image.get_attribute("src")) for image in page.locator("#pictures img").all()]
    ink = 1 - torch.from_numpy(np.stack(images)).float().flatten(1) / 255
    taste = judge(session.env.networks, ink)[:, WANTED]  # type: ignore[attr-defined]
    return taste.argsort(descending=True).tolist()


def choose(page: Page, slot: int) -> None:
    """A click, and the page after it."""
    with page.expect_navigation():
        page.locator("#pictures button").nth(slot).click()


def press(page: Page, name: str) -> None:
    with page.expect_navigation():
        page.locator(f"#{name}").click()


def number(page: Page) -> int:
    return int(page.locator("body").get_attribute("data-round") or "")


def ranks(page: Page) -> dict[int, str]:
    """The clicks that the page shows: place on the screen and rank."""
    buttons = page.locator("#pictures button").all()
    return {slot: button.inner_text() for slot, button in enumerate(buttons) if button.inner_text()}


def seen(page: Page) -> list[str | None]:
    return [image.get_attribute("src") for image in page.locator("#pictures img").all()]


def test_a_person_leads_the_agent_to_a_three_and_the_export_is_the_episode(
    context: BrowserContext, tmp_path: Path
) -> None:
    short = settings(keywords=settings().keywords | {"budget": {"ranking": 9}})
    session = open_session(short, tmp_path / "session")
    before = probability(session)
    with served(session) as address:
        page = context.new_page()
        page.goto(address)
        first = picture(page.locator("#best").get_attribute("src"))
        rounds = 0
        while page.locator("#pictures").count():
            assert number(page) == rounds + 1
            named = session.round.named
            for slot in likes(page, session)[:named]:
                choose(page, slot)
            rounds += 1
        assert "Finished after 8 rounds" in page.locator("#progress").inner_text()
        last = picture(page.locator("#best").get_attribute("src"))
        assert page.locator("#history li").count() == 9
        with page.expect_download() as download:
            page.locator("#export").click()
        download.value.save_as(tmp_path / "export.json")
    taste = [
        judge(session.env.networks, 1 - torch.from_numpy(image.copy()).float().flatten() / 255)[WANTED].exp()  # type: ignore[attr-defined]
        for image in (first, last)
    ]
    assert before < 0.1 and taste[0] < 0.1
    assert taste[1] > 0.8
    run = optenvs.replay_session(tmp_path / "export.json")
    assert torch.equal(run.state.observation["point"], session.round.state.observation["point"])
    assert torch.equal(run.state.observation["order"], session.round.state.observation["order"])
    assert torch.equal(run.metrics["probability"][-1], session.round.state.metrics["probability"])


def test_undo_and_none_better_by_buttons_and_by_keys(context: BrowserContext) -> None:
    session = open_session(settings())
    with served(session) as address:
        page = context.new_page()
        page.goto(address)
        assert page.locator("#undo-click").is_disabled()
        assert page.locator("#undo-round").is_disabled()
        choose(page, 5)
        choose(page, 1)
        assert ranks(page) == {5: "1", 1: "2"}
        assert page.locator("#pictures button").nth(5).is_disabled()
        press(page, "undo-click")
        assert ranks(page) == {5: "1"}
        for key, shown in (("3", {5: "1", 2: "2"}), ("Backspace", {5: "1"}), ("Backspace", {})):
            with page.expect_navigation():
                page.keyboard.press(key)
            assert ranks(page) == shown
        images = seen(page)
        press(page, "none")
        assert number(page) == 2
        assert seen(page) != images
        with page.expect_navigation():
            page.keyboard.press("n")
        assert [said.ranking for said in session.record.said] == [(), ()]
        press(page, "undo-round")
        press(page, "undo-round")
        assert number(page) == 1
        assert seen(page) == images
        assert session.record.said == ()


def test_a_browser_that_is_closed_and_a_server_that_is_started_again(
    browser: Browser, context: BrowserContext, tmp_path: Path
) -> None:
    session = open_session(settings(), tmp_path)
    with served(session) as address:
        page = context.new_page()
        page.goto(address)
        for slot in (0, 1, 2):
            choose(page, slot)
        press(page, "none")
        choose(page, 4)
        there = number(page), ranks(page), seen(page)
        assert there[:2] == (3, {4: "1"})
        page.close()
        with browser.new_context() as later:
            again = later.new_page()
            again.goto(address)
            assert (number(again), ranks(again), seen(again)) == there
    # of what was not answered only the click is lost
    with served(open_session(None, tmp_path)) as address:
        page = context.new_page()
        page.goto(address)
        assert (number(page), ranks(page), seen(page)) == (3, {}, there[2])


def test_a_double_click_is_one_click(context: BrowserContext) -> None:
    session = open_session(settings())
    with served(session) as address:
        page = context.new_page()
        page.goto(address)
        page.locator("#pictures button").nth(6).dblclick()
        page.wait_for_function("document.body.dataset.moment === '1'")
        assert ranks(page) == {6: "1"}
        assert session.clicks == (session.round.display[6],)
        assert page.locator("#message").count() == 0


def test_the_second_half_of_a_slow_double_click_falls_on_nothing(context: BrowserContext) -> None:
    session = open_session(settings())
    with served(session) as address:
        page = context.new_page()
        page.goto(address)
        choose(page, 6)
        choose(page, 0)
        page.clock.install(time=0)
        page.clock.pause_at(1000)
        where = page.locator("#pictures button").nth(3).bounding_box()
        assert where is not None
        centre = where["x"] + where["width"] / 2, where["y"] + where["height"] / 2
        with page.expect_navigation():
            page.mouse.click(*centre)
        assert number(page) == 2
        page.mouse.click(*centre)
        above = "([x, y]) => document.elementFromPoint(x, y).closest('#pictures button') !== null"
        assert not page.evaluate(above, list(centre))
        assert session.round.number == 2
        page.clock.run_for(500)
        assert page.evaluate(above, list(centre))
        with page.expect_navigation():
            page.mouse.click(*centre)
        assert session.round.number == 3


def test_a_tab_that_is_out_of_date(context: BrowserContext) -> None:
    session = open_session(settings())
    with served(session) as address:
        old, new = context.new_page(), context.new_page()
        for page in (old, new):
            page.goto(address)
        press(new, "none")
        answer = session.record
        choose(old, 2)
        assert "nothing was changed" in old.locator("#message").inner_text()
        assert number(old) == 2  # with what holds now
        assert session.record == answer
        assert session.clicks == ()
        choose(old, 2)
        assert old.locator("#message").count() == 0
        assert session.round.over is False

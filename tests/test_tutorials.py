"""The tutorials are true: their blocks run in order, and print what they say that they print."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = sorted(FOLDER.glob("*.md"))
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def cells(page: Path) -> list[tuple[str, str]]:
    """The python blocks, and what each prints: the block of text behind it, or nothing."""
    return re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_says_what_its_code_prints(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = cells(page)
    assert sum("print" in code for code, _ in found) == sum(bool(text) for _, text in found) > 0
    for code, expected in found:
        exec(compile(code, module.__name__, "exec"), module.__dict__)
        printed = capsys.readouterr().out
        # other releases of torch round otherwise, and training carries that on
        assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", expected).split()
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, expected)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.1)

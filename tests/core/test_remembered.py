"""Results kept by their arguments."""

from __future__ import annotations

from optenvs.core.remembered import remembered


def test_each_result_is_found_once_and_the_oldest_goes_first() -> None:
    asked = []

    @remembered(maxsize=2)
    def square(x: int) -> int:
        asked.append(x)
        return x * x

    assert [square(x) for x in (2, 3, 2, 3, 2)] == [4, 9, 4, 9, 4]
    assert asked == [2, 3]
    assert square(4) == 16  # in the place of 2
    assert square(3) == 9 and asked == [2, 3, 4]
    assert square(2) == 4 and asked == [2, 3, 4, 2]
    assert square.__name__ == "square"

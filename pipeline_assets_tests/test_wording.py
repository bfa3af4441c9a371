"""The words of messages that depend on a number."""

import pytest

from pipeline_assets.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("symbol",), "0 symbols"),
        (1, ("symbol",), "1 symbol"),
        (2, ("earlier run",), "2 earlier runs"),
        (1, ("strategy", "strategies"), "1 strategy"),
        (3, ("strategy", "strategies"), "3 strategies"),
        (1440, ("candle",), "1,440 candles"),
    ],
)
def test_noun_follows_the_number(number, words, expected) -> None:
    """One thing stands in the singular, none or several in the plural."""
    assert counted(number, *words) == expected

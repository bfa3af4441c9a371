"""Outside text in a message is one printable line without credentials."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.outside_text import printable


@given(st.text(st.characters()))
def test_any_text_becomes_one_printable_line(text):
    assert printable(text).isprintable()


def test_words_of_any_script_stay():
    assert printable("币安人生USDT: größer, 50 %") == "币安人生USDT: größer, 50 %"


def test_escape_sequences_are_made_visible():
    """Escape sequences are shown, and lines are joined."""
    assert (
        printable("\x1b[31mred\x1b[0m\r\nnext\x9b\u202e") == "\\x1b[31mred\\x1b[0m next\\x9b\\u202e"
    )


def test_credentials_of_an_address_are_removed():
    assert printable("407, url='http://me:s3cret@proxy:3128'") == "407, url='http://…@proxy:3128'"


def test_a_long_text_is_cut():
    assert len(printable("x" * 10_000)) == 1001

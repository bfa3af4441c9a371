"""Text from outside systems, made safe for an error message, a log or a terminal. The meaning of the
text does not matter here.
"""

import re

_LONGEST = 1000
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r]+")
# A client's error may quote the address of a proxy with its password.
_CREDENTIALS = re.compile(r"://[^/\s@]+@")


def printable(text: object) -> str:
    r"""Return outside text on one line, with its control characters escaped.

    An escape sequence in a server's error text could otherwise clear the terminal, hide the rest of
    the message or forge a line of the log. Tabs and line breaks become a space, and every other
    character that is not printable becomes its escape, such as ``\x1b``. Credentials in an address
    are removed, and a long text is cut.

    Args:
        text: what a server, a library or a file said; an exception stands for its message.
    """
    line = _LINE_BREAKS.sub(" ", str(text)).strip()
    line = _CREDENTIALS.sub("://…@", line)
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}…"
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in line
    )

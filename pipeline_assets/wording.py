"""Words of messages that depend on a number. Whole messages stay where they are raised or printed."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun, such as `1 symbol` and `1,440 symbols`.

    Args:
        number: how many there are.
        noun: in the singular.
        plural: for a noun that does not only add an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"

"""How many examples property tests try: all of them in `make test-all`, one in four in `make test`.

A test that names no number follows the profile alone. A test with a number of its own passes the number to
`examples`. Tests of 25 examples and fewer keep their number.
"""

from hypothesis import HealthCheck, settings

_ALL, _SOME = "all examples", "some examples"

# A deadline, or a limit on how long examples take to make, fails on a busy machine and says nothing of the
# code.
settings.register_profile(
    _ALL, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.register_profile(_SOME, settings.get_profile(_ALL), max_examples=25)


def profile_of(mark_expression: str) -> str:
    """Return the name of the profile for a selection of tests by marks, as given to pytest -m."""
    return _SOME if mark_expression == "not matrix" else _ALL


def examples(number: int) -> int:
    """Return how many of `number` examples the current profile tries."""
    return number * settings().max_examples // 100

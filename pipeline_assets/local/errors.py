"""Errors of the embedded stack that more than one of its modules raises or handles."""

from pipeline_assets.errors import OutsideSystemError


class StackError(OutsideSystemError):
    """The stack cannot start or go on. The message names the service, the reason and a remedy."""


class UnhealthyError(OutsideSystemError):
    """A service does not work. The message says what was asked and what came back."""


class UnknownHealthError(OutsideSystemError):
    """A service's health is unknown now, because the server to ask does not answer."""

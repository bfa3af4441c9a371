"""The base of every exception that the product raises, and the four branches below it. Each exception is
defined in the module that raises it.

A new exception derives from the branch that says who can remove the cause. Its message says what failed,
where, and what to do: the command line prints the message alone. An exception outside this tree is a bug,
and is shown with its traceback. Airflow's DAG folder and the replay exchange import nothing of this
package, so their exceptions are their own.
"""


class PipelineError(Exception):
    """A failure that the product foresees. The message says what failed, where, and what to do.

    Attributes:
        exit_status: the status with which a command ends that raises it.
    """

    exit_status = 1


class InputError(PipelineError):
    """A setting, an option, a variable or a file of a person's is wrong, or a person stopped the work."""

    exit_status = 2


class OutsideSystemError(PipelineError):
    """The exchange, a store, the broker or this machine refused, did not answer, or answered wrongly."""


class DataError(PipelineError):
    """Stored or received data are missing, damaged or malformed."""


class InternalError(PipelineError):
    """A part of the product or of a library does not keep its promise to another part."""

"""A trained model as inference uses it: probability, expected value and reasons of candidates. Training is in
training.py; files and the registry are elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from pipeline_assets.errors import DataError
from pipeline_assets.research.side_products import with_fast_products

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

SIDE = "side"
_REASONS = 3


class ModelInputError(DataError, ValueError):
    """Inputs that a model cannot judge. The message names the columns that are missing."""


class Payoff(BaseModel):
    """The mean net return of a candidate that won and of one that lost, per unit of notional, after costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    winner: FiniteFloat = Field(ge=0)
    loser: FiniteFloat = Field(le=0)

    def expected(self, probability: float) -> float:
        """Return the expected net return of a candidate that wins with a probability."""
        return probability * self.winner + (1 - probability) * self.loser


class ModelFacts(BaseModel):
    """All that inference needs beside the estimator, as plain data: the registry's manifest holds it.

    Attributes:
        columns: the input columns, in the order of the estimator's matrix.
        medians: of each column in the training data; None for one that was always null.
        deciles: the nine inner deciles of each column in the training data; empty for one that was always
            null. Drift is measured against these.
        missing: the share of nulls of each column in the training data.
        base_rate: the share of the training data's candidates that won.
        payoff: what a winner and a loser of the training data earned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] = Field(min_length=1)
    medians: dict[str, FiniteFloat | None]
    deciles: dict[str, tuple[FiniteFloat, ...]]
    missing: dict[str, FiniteFloat]
    base_rate: FiniteFloat = Field(ge=0, le=1)
    payoff: Payoff


class Estimator(Protocol):
    """A fitted classifier of scikit-learn, whose second class is a candidate that won."""

    def predict_proba(self, matrix: Any) -> Any:
        """Return one row of class probabilities a row of the matrix; NaN is a null."""


@dataclass(frozen=True)
class Reason:
    """A column and its effect: how the probability changes against that of the column's median.

    `value` is None where the column is null.
    """

    column: str
    value: float | None
    effect: float


@dataclass(frozen=True)
class Judgement:
    """A model's answer about one candidate.

    Attributes:
        id: the candidate's id.
        probability: that the candidate earns money after costs.
        expected_value: the net return to expect, per unit of notional.
        reasons: the three columns with the strongest effect, the strongest first.
    """

    id: str
    probability: float
    expected_value: float
    reasons: tuple[Reason, ...]


class CandidateModel:
    """A fitted estimator with the plain data that its probabilities need."""

    def __init__(self, estimator: Estimator, facts: ModelFacts) -> None:
        """Make a model of its two parts, as training returns them and as the registry stores them.

        Args:
            estimator: fitted on a float64 matrix of `facts.columns`, null as NaN.
            facts: the plain data.
        """
        from threadpoolctl import ThreadpoolController

        self.estimator, self.facts = estimator, facts
        self._faster = with_fast_products(estimator)
        self._explained = [name for name in facts.columns if name != SIDE]
        # Made once: it searches all loaded libraries, which takes longer than a prediction.
        self._threads = ThreadpoolController()

    def judge(self, inputs: "pl.DataFrame") -> list[Judgement]:
        """Return a judgement of each candidate, in the order given.

        Args:
            inputs: the result of `model_inputs`.

        Raises:
            ModelInputError: a column of the model is missing.
        """
        import numpy as np

        if inputs.is_empty():
            return []
        matrix = input_matrix(inputs, self.facts.columns)
        rows, explained = len(matrix), len(self._explained)
        # One call for all: the candidates, then the candidates with one column after the other replaced.
        asked = np.tile(matrix, (1 + explained, 1))
        for number, name in enumerate(self._explained, 1):
            median = self.facts.medians[name]
            column = self.facts.columns.index(name)
            asked[number * rows : (number + 1) * rows, column] = (
                np.nan if median is None else median
            )
        found = self.probabilities(asked).reshape(1 + explained, rows)
        effects = found[0] - found[1:]
        return [
            Judgement(
                identity,
                float(found[0, row]),
                self.facts.payoff.expected(float(found[0, row])),
                self._reasons(matrix[row], effects[:, row]),
            )
            for row, identity in enumerate(inputs["id"])
        ]

    def probabilities(self, matrix: "Matrix") -> "Matrix":
        """Return the probability of winning of each row of a matrix of the model's columns."""
        # More threads make small predictions a hundred times slower on a busy machine.
        with self._threads.limit(limits=1):
            found: Matrix = self._faster.predict_proba(matrix)[:, 1]
        return found

    def _reasons(self, values: "Matrix", effects: "Matrix") -> tuple[Reason, ...]:
        import numpy as np

        # Stable, so that equal effects keep the order of the columns on every machine.
        strongest = np.argsort(-np.abs(effects), kind="stable")[:_REASONS]
        found = []
        for place in strongest.tolist():
            name = self._explained[place]
            value = float(values[self.facts.columns.index(name)])
            known = value if np.isfinite(value) else None
            found.append(Reason(name, known, float(effects[place])))
        return tuple(found)


def input_matrix(inputs: "pl.DataFrame", columns: Sequence[str]) -> "Matrix":
    """Return columns of a frame as a float64 matrix; a null and an infinite value are NaN.

    Raises:
        ModelInputError: a column is missing.
    """
    import numpy as np
    import polars as pl

    absent = [name for name in columns if name not in inputs.columns]
    if absent:
        raise ModelInputError(
            f"The inputs are without the model's {', '.join(absent)}: a feature was renamed or removed. "
            "Train the model again."
        )
    numbers = inputs.select(pl.col(columns).cast(pl.Float64))
    found = numbers.to_numpy(order="c", writable=True)
    found[~np.isfinite(found)] = np.nan
    return found

"""The two kinds of models that are trained: gradient boosting and logistic regression, both calibrated.
Everything is a class of scikit-learn, so that the registry can store a fitted model by a fixed list of
types.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_assets.research.candidate_model import Estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_assets.research.walk_forward import Fold

    Matrix = NDArray[np.float64]

LOGISTIC, BOOSTING = "logistic regression", "gradient boosting"
# The simpler one first: it is used as long as nothing is known that speaks for the other.
KINDS = (LOGISTIC, BOOSTING)
# A leaf of fewer examples than this share would learn single trades.
_LEAF_SHARE, _SMALLEST_LEAF = 0.005, 20


def fitted(
    kind: str, matrix: "Matrix", won: "NDArray[np.int64]", fold: "Fold", seed: int
) -> Estimator:
    """Return a model fitted on the first part of a fold and calibrated on the later one.

    Call this under `one_thread`: on a busy machine OpenMP's threads make a fit thirty times slower.

    Args:
        kind: one of `KINDS`.
        matrix: the inputs of all examples; NaN is a null.
        won: 1 for each example that earned money, else 0.
        fold: the rows to use; both parts have winners and losers.
        seed: of what is drawn.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    columns, examples = matrix.shape[1], len(fold.fit)
    model = _boosting(examples, seed) if kind == BOOSTING else _logistic(columns)
    inputs = matrix[fold.fit]
    # scikit-learn 1.9.1 fails on a column of nulls, such as a feature whose history had not begun. A constant
    # is never split.
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0
    model.fit(inputs, won[fold.fit])
    # Platt's sigmoid: isotonic regression would need thousands of examples in each part of the range.
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
    found: Estimator = calibrated.fit(matrix[fold.calibrate], won[fold.calibrate])
    return found


def one_thread() -> Any:
    """Return a context in which the numeric libraries of this process use one thread."""
    # Before the limit is set: only libraries that are loaded are limited.
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def _boosting(examples: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=15,
        min_samples_leaf=max(_SMALLEST_LEAF, int(examples * _LEAF_SHARE)),
        l2_regularization=1.0,
        # It would hold back examples by chance, of the same hours as those that are fitted.
        early_stopping=False,
        random_state=seed,
    )


def _logistic(columns: int) -> Any:
    """Return a regression on each column and on its product with the side, the first column.

    A value that speaks for a long often speaks against a short: a linear model needs the products for that.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    products = ColumnTransformer(
        [
            (
                str(place),
                PolynomialFeatures(2, interaction_only=True, include_bias=False),
                [0, place],
            )
            for place in range(1, columns)
        ]
    )
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        products,
        LogisticRegression(C=0.01, max_iter=300),
    )

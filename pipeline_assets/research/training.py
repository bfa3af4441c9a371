"""Training of a strategy's model: past candidates, their inputs and labels, models and their worth. Types are
in training_types.py.
"""

from pipeline_assets.research.training_types import TrainingRequest, TrainingResult, TrainingSources


def train(request: TrainingRequest, sources: TrainingSources) -> TrainingResult:
    """Train a model and measure its worth out of sample.

    Raises:
        TooFewExamplesError: the span has too few candidates with an outcome.
        NoCandlesError: no candle is stored of any symbol in the span.
    """
    raise NotImplementedError

"""The section `training` of the settings: what the asset `model` trains on. Whether models decide is in the
section `inference`.
"""

from pydantic import Field

from pipeline_assets.settings.sections import Section


class TrainingSettings(Section):
    """The candidates that models are trained on."""

    days: int = Field(365, ge=1, le=3660, examples=[180])

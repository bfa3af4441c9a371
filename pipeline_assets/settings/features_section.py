"""The section `features` of the settings: when a row of features counts as known."""

from pydantic import Field

from pipeline_assets.settings.sections import Section


class FeatureSettings(Section):
    """When a candle's features count as available: this long after its close. Stored in each row."""

    load_lag_seconds: int = Field(60, ge=0, le=3600, examples=[90])

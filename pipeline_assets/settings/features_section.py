"""The section `features` of the settings: whether features are computed, and when a row counts as known."""

from pydantic import Field

from pipeline_assets.settings.sections import Section


class FeatureSettings(Section):
    """Features in the warehouse. Who has no models saves a statement for each load without them."""

    enabled: bool = Field(True, examples=[False])
    # After the candle's close; stored in each row.
    load_lag_seconds: int = Field(60, ge=0, le=3600, examples=[90])

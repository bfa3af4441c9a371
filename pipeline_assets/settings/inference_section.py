"""The section `inference` of the settings: whether the inference service decides about candidates, and what
it accepts. The trader reads it too, since it decides itself while the service is off.
"""

from pydantic import Field

from pipeline_assets.settings.sections import Section


class InferenceSettings(Section):
    """The service that decides about candidates by a model."""

    enabled: bool = Field(False, examples=[True])
    minimum_value: float = Field(0.0, ge=-1, le=1, examples=[0.0005])
    group_id: str = Field(
        "pipeline-assets-inference", pattern=r"^[A-Za-z0-9._-]{1,200}$", examples=["desk-1"]
    )
    # The trader begins 25 s after the close, and its orders leave within the minute.
    wait_seconds: int = Field(45, ge=25, le=55, examples=[50])

"""Names that stand in the modules of each document now."""

from pipeline_assets.resources.day_findings import *  # noqa: F403
from pipeline_assets.resources.evaluation_record import *  # noqa: F403
from pipeline_assets.resources.finalized_days import *  # noqa: F403
from pipeline_assets.resources.listing_history import *  # noqa: F403
from pipeline_assets.resources.tick_state import *  # noqa: F403

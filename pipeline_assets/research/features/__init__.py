"""The features of candles in the warehouse: catalogue.py declares each once, windows.py has the windows over
candles that their expressions use, and query.py makes the one query of all of them. The statements that run
are generated from that query; resources/warehouse_features.py runs them and imports none of this.
"""

from pipeline_assets.research.features.catalogue import FEATURES, feature_names
from pipeline_assets.research.features.feature import Feature

__all__ = ["FEATURES", "Feature", "feature_names"]

"""The current models of the configured strategies, refreshed once a minute: the registry reads one small
object a strategy, and the model itself only when another one was promoted.
"""

import logging
from collections.abc import Iterable

from pipeline_assets.research.model_registry import (
    LoadedModel,
    ModelRegistry,
    NoModel,
    NoModelReason,
)

_logger = logging.getLogger(__name__)
_NOT_CONFIGURED = NoModel(NoModelReason.NO_MODEL, "The strategy is not configured.")


class LiveModels:
    """The models by strategy and version. One thread refreshes these, others read."""

    def __init__(self, registry: ModelRegistry, strategies: Iterable[tuple[str, str]]) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            registry: of the lake.
            strategies: names and versions.
        """
        self._registry, self._strategies = registry, tuple(strategies)
        self._held: dict[tuple[str, str], LoadedModel | NoModel] = {}

    def refresh(self) -> None:
        """Look for other models; each change is logged.

        Raises:
            ObjectStoreError: S3 failed; the models before stay.
        """
        for key in self._strategies:
            found = self._registry.current(*key)
            before = self._held.get(key)
            if found != before:
                if isinstance(found, NoModel):
                    _logger.warning(
                        "%s: candidates are declined as %s. %s", key[0], found.reason, found.detail
                    )
                else:
                    _logger.info("%s is judged by model %s.", key[0], found.manifest.model_id)
            self._held[key] = found

    def current(self, strategy: str, version: str) -> LoadedModel | NoModel:
        """Return the model of a strategy, or the reason why there is none."""
        return self._held.get((strategy, version), _NOT_CONFIGURED)

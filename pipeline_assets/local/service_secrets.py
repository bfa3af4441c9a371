"""The secrets of the settings that a service of the stack does not get: a process whose environment is read
must not give away what it never needed. How an environment is made is in environment.py.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from pipeline_assets.settings import PREFIX, Settings

ACCOUNT_KEY = frozenset({f"{PREFIX}TRADING__API_KEY", f"{PREFIX}TRADING__API_SECRET"})
_TOKEN = frozenset({f"{PREFIX}GATEWAY__TOKEN"})
_JOURNAL = frozenset({f"{PREFIX}TRADING__JOURNAL_URL"})
# Airflow gets the address of its database under another name.
_AIRFLOW = frozenset({f"{PREFIX}AIRFLOW__DATABASE_URL"})
_DAGSTER = frozenset({f"{PREFIX}DAGSTER__STORAGE_URL", f"{PREFIX}CELERY__BROKER_URL"})

# Dagster's runs compare a day of the account with the exchange; nothing of Dagster calls the gateway.
KEPT_FROM_RUNS = _TOKEN | _JOURNAL | _AIRFLOW
# Web server and daemon execute nothing of the product, and a code server beside workers no run.
KEPT_FROM_DAGSTER = KEPT_FROM_RUNS | ACCOUNT_KEY
KEPT_FROM_GATEWAY = _AIRFLOW | _DAGSTER
KEPT_FROM_TRADER = ACCOUNT_KEY | _JOURNAL | _AIRFLOW | _DAGSTER
KEPT_FROM_OTHERS = KEPT_FROM_TRADER | _TOKEN


def all_but(*needed: str) -> frozenset[str]:
    """Return the variables of all secrets but these: for a server that does not read the settings."""
    return frozenset(_secrets(Settings, PREFIX)) - {f"{PREFIX}{name}" for name in needed}


def _secrets(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _secrets(kind, f"{prefix}{name}__".upper())
        elif _holds_secret(kind):
            yield f"{prefix}{name}".upper()


def _holds_secret(kind: Any) -> bool:
    return kind is SecretStr or any(map(_holds_secret, get_args(kind)))

"""Reading the settings, and reporting what is wrong with them. Code that uses a single setting does not
belong here.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError as UnreadableSettingError

from pipeline_assets.credentials_file import (
    CredentialsFileError,
    make_credentials,
    read_credentials,
)
from pipeline_assets.settings.files import (
    CONFIG_FILE,
    ENV_FILE,
    PREFIX,
    SettingsError,
    literal_values,
    refuse_secrets_in,
)
from pipeline_assets.settings.model import Settings
from pipeline_assets.settings.sections import Section

_LISTS = ("symbols", "strategies", "allowed_hosts")


def load_settings() -> Settings:
    """Read the settings from their sources, without a cache.

    Raises:
        SettingsError: a value is malformed, a key is unknown, or config.yaml holds a secret.
    """
    file = Path(os.environ.get(CONFIG_FILE, "config.yaml"))
    if CONFIG_FILE in os.environ and not file.is_file():
        raise SettingsError(
            f"{CONFIG_FILE}: there is no file {file}. Example: {CONFIG_FILE}=config.yaml"
        )
    _refuse_unknown_variables()
    refuse_secrets_in(file)
    # Before pydantic reads it, whose errors would not name the file.
    literal_values(Path(ENV_FILE))
    try:
        return with_embedded_credentials(Settings())
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except UnreadableSettingError as error:
        # Pydantic's message names the field but not the value, which may hold a secret.
        raise SettingsError(
            f"Wrong settings: {error}. A section is set key by key, like "
            f"{PREFIX}BINANCE__SETTLE_MS=2000; strategies are JSON, like "
            f"{PREFIX}STRATEGIES={_example(('strategies',))}."
        ) from None


def _refuse_unknown_variables() -> None:
    """Refuse a variable that is not a setting, such as PIPELINE_S3_BUCKET, which pydantic ignores."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_FILE}
    for name in sorted(os.environ):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper.split("__")[0] not in known:
            raise SettingsError(
                f"{name}: there is no such setting; config.yaml lists all of them. Levels are "
                f"joined by two underscores. Example: {PREFIX}S3__BUCKET=my-candles"
            )


@cache
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def with_embedded_credentials(settings: Settings) -> Settings:
    """Return the settings, with the embedded stack's credentials for each system that has no others.

    Raises:
        SettingsError: the file of the credentials is damaged or cannot be read.
    """
    try:
        return _with_credentials(settings, read_credentials(settings.data_dir))
    except CredentialsFileError as error:
        raise SettingsError(str(error)) from error


def making_embedded_credentials(settings: Settings) -> Settings:
    """Like `with_embedded_credentials`, and make the credentials first if there are none.

    Commands that start the embedded stack call this. It is safe to repeat: existing credentials are kept.

    Raises:
        CredentialsFileError: the file of the credentials is damaged or cannot be read.
        SettingsError: the file of the credentials cannot be written.
    """
    try:
        make_credentials(settings.data_dir)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}DATA_DIR: credentials cannot be written to {settings.data_dir} "
            f"({error.strerror}). Name a directory that this user may write to."
        ) from error
    return with_embedded_credentials(settings)


def _with_credentials(settings: Settings, known: Mapping[str, str]) -> Settings:
    s3, redis, snowflake = settings.s3, settings.redis, settings.snowflake
    changes: dict[str, Section] = {}
    if s3.embedded and s3.access_key_id is None:
        changes["s3"] = _filled("s3", s3, known, "access_key_id", "secret_access_key")
    if redis.embedded and redis.password is None:
        changes["redis"] = _filled("redis", redis, known, "password")
    if snowflake.embedded and not snowflake.has_login:
        changes["snowflake"] = _filled("snowflake", snowflake, known, "password")
    if settings.gateway.embedded and settings.gateway.token is None:
        changes["gateway"] = _filled("gateway", settings.gateway, known, "token")
    return settings.model_copy(update=changes)


def _filled(name: str, section: Section, known: Mapping[str, str], *keys: str) -> Section:
    """Return the section with all of the keys, or as it is: half a credential would be refused."""
    variables = {key: f"{PREFIX}{name}__{key}".upper() for key in keys}
    if not all(variable in known for variable in variables.values()):
        return section
    held = {field: getattr(section, field) for field in type(section).model_fields}
    return section.model_validate(
        held | {key: known[variable] for key, variable in variables.items()}
    )


def _example(location: tuple[str | int, ...]) -> str | None:
    """Return a value of the setting: its example, or else its default, which production may keep."""
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
            continue
        value = field.examples[0] if field.examples else field.default
        return f"{value:g}" if isinstance(value, float) else str(value)
    return None


def _explain(error: ValidationError) -> str:
    """Return one line a wrong setting. The value itself is not repeated: it may be a secret."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        location = problem["loc"]
        # The location is a whole name if .env has a key that is not a setting.
        names = [str(part).lower().removeprefix(PREFIX.lower()) for part in location]
        key = (
            PREFIX
            + "__".join(
                names[:2] if len(names) > 1 and names[0] not in _LISTS else names[:1]
            ).upper()
        )
        example = _example(location)
        hint = f" Example: {key}={example}" if example is not None else ""
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: there is no such setting; config.yaml lists all of them.")
        else:
            # Which entry of a list, and what of it: the key names the list only.
            place = (
                "".join(f"{part}: " for part in location[1:]) if names[0] == "strategies" else ""
            )
            text = problem["msg"].removeprefix("Value error, ")
            if problem["input"] is None and problem["type"] != "value_error":
                text = "must not be empty"
            lines.append(f"{key}: {place}{text}.{hint}")
    return "Wrong settings (config.yaml, .env or environment):\n  " + "\n  ".join(lines)

"""Reading the files of settings, config.yaml and .env, and refusing what they must not hold. Which settings
there are does not belong here.
"""

import codecs
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_assets.errors import InputError

PREFIX = "PIPELINE_"
CONFIG_FILE = f"{PREFIX}CONFIG_FILE"
SECRETS = (
    ("s3", "secret_access_key"),
    ("redis", "password"),
    ("redis", "sentinel_password"),
    ("redis", "ssl_key_password"),
    ("snowflake", "password"),
    ("snowflake", "private_key_passphrase"),
    ("snowflake", "token"),
    ("kafka", "sasl_password"),
    ("kafka", "sasl_oauthbearer_client_secret"),
    ("kafka", "ssl_key_password"),
    ("kafka", "properties"),
    ("dagster", "storage_url"),
    ("airflow", "database_url"),
    ("celery", "broker_url"),
    ("alerts", "webhook_url"),
    ("trading", "journal_url"),
    ("trading", "api_key"),
    ("trading", "api_secret"),
    ("gateway", "token"),
)
ENV_FILE = ".env"
# Editors on Windows begin a file with a byte order mark, which would become part of the first name.
ENCODING = "utf-8-sig"
_AS_UTF8 = "Save the file as UTF-8, for example by `iconv -f UTF-16 -t UTF-8`."


class SettingsError(InputError):
    """A setting is wrong. The message names the key, what is wrong with it, and an example."""


def literal_values(file: Path) -> dict[str, str | None]:
    """Return the values of an .env file by name in lower case, `${…}` in them as it stands.

    Raises:
        SettingsError: the file is not UTF-8, or a line is not NAME=value.
    """
    from dotenv.parser import parse_stream

    if not file.is_file():
        return {}
    values: dict[str, str | None] = {}
    for statement in parse_stream(io.StringIO(_text(file))):
        if statement.error:
            # python-dotenv would log a warning and go on without the setting.
            raise SettingsError(
                f"{file}: line {statement.original.line} is not NAME=value, or a quotation mark is "
                f"not closed. Example: {PREFIX}S3__BUCKET=my-candles"
            )
        if statement.key is not None:
            values[statement.key.lower()] = statement.value
    return values


def _text(file: Path) -> str:
    """Return the text of a file of settings. An error does not repeat it: it may hold secrets.

    Raises:
        SettingsError: the file cannot be read or is not UTF-8.
    """
    try:
        content = file.read_bytes()
        text = content.decode(ENCODING)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SettingsError(f"{file}: line 1: the file is UTF-16. {_AS_UTF8}") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{file}: line {line} is not UTF-8. {_AS_UTF8}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SettingsError(f"{file}: line {line} has a zero byte: UTF-16? {_AS_UTF8}")
    return text


def configured_values(file: Path) -> dict[str, Any]:
    """Return what a config.yaml says; nothing where there is no such file.

    Raises:
        SettingsError: the file cannot be read, is not valid YAML, or is not a mapping of settings.
    """
    import yaml

    if not file.exists():
        return {}
    text = _text(file)
    try:
        content = _parsed(text) or {}
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{file} is not valid YAML: a control character in line {line}. Example: `symbols: all`"
        ) from None
    except yaml.MarkedYAMLError as error:
        # Its own text quotes the line, which may hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(
            f"{file} is not valid YAML: {error.problem} in line {line}. Example: `symbols: all`"
        ) from None
    if not isinstance(content, dict):
        raise SettingsError(f"{file} must hold a mapping of settings, like `symbols: all`.")
    return content


def _parsed(text: str) -> Any:
    """Return what YAML says, by libyaml where PyYAML has it: that takes a tenth of the time.

    A text that libyaml refuses is read again by PyYAML's own parser, whose errors give the position in
    characters.
    """
    import yaml

    if yaml.__with_libyaml__:
        with suppress(yaml.YAMLError):
            return yaml.load(text, Loader=yaml.CSafeLoader)
    return yaml.safe_load(text)


def refuse_secrets_in(file: Path) -> None:
    """Refuse a config.yaml that holds a secret, or is not a mapping of settings.

    Raises:
        SettingsError: as the message says.
    """
    content = configured_values(file)
    sections = {str(section).lower(): held for section, held in content.items()}
    for section, key in SECRETS:
        held = sections.get(section)
        if isinstance(held, dict) and any(
            str(name).lower() == key and value is not None for name, value in held.items()
        ):
            name = f"{PREFIX}{section}__{key}".upper()
            raise SettingsError(
                f"{file}: {section}.{key} is a secret: put it into .env as {name}=… instead."
            )

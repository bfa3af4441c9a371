"""Settings: their order of precedence, and errors that name the key, the problem and an example."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pipeline_assets.credentials_file import make_credentials
from pipeline_assets.local.exchange.command import exchange
from pipeline_assets.local.exchange.weights import WeightBudget
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.settings import (
    PRODUCTION_BINANCE,
    SECRETS,
    BinanceSettings,
    Settings,
    SettingsError,
    SnowflakeSettings,
    StrategySettings,
    load_settings,
)

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = "correct-horse-battery"


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    """No settings but a test's own: an empty directory and no PIPELINE_ variable."""
    for name in list(os.environ):
        if name.startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_environment_overrides_files_override_defaults(empty_directory, monkeypatch):
    """The environment overrides .env, .env overrides config.yaml, and that overrides the defaults."""
    (empty_directory / "config.yaml").write_text(
        "binance: {settle_ms: 1, retries: 1, weight_margin: 1}"
    )
    (empty_directory / ".env").write_text(
        "PIPELINE_BINANCE__SETTLE_MS=2\nPIPELINE_BINANCE__RETRIES=2\n"
    )
    monkeypatch.setenv("PIPELINE_BINANCE__SETTLE_MS", "3")
    held = load_settings().binance
    assert (held.settle_ms, held.retries, held.weight_margin) == (3, 2, 1)
    assert held.weight_limit == 2400


def test_cluster_needs_a_broker_apart(monkeypatch):
    """Workers cannot use a cluster as their broker, so that it must be named; without workers it need not."""
    monkeypatch.setenv("PIPELINE_REDIS__URL", "redis+cluster://a,b")
    assert "PIPELINE_CELERY__BROKER_URL: is missing, and PIPELINE_REDIS__URL is a" in refusal()
    monkeypatch.setenv("PIPELINE_DAGSTER__LAUNCHER", "process")
    assert load_settings().redis.address.hosts == (("a", 6379), ("b", 6379))
    monkeypatch.setenv("PIPELINE_DAGSTER__LAUNCHER", "celery")
    monkeypatch.setenv("PIPELINE_CELERY__BROKER_URL", "redis+sentinel://a/orders")
    assert load_settings().celery.broker_url


def test_another_config_file_may_be_named(empty_directory, monkeypatch):
    (empty_directory / "other.yaml").write_text("symbols: all")
    monkeypatch.setenv("PIPELINE_CONFIG_FILE", str(empty_directory / "other.yaml"))
    assert load_settings().symbols == "all"
    monkeypatch.setenv("PIPELINE_CONFIG_FILE", "absent.yaml")
    assert re.search(r"PIPELINE_CONFIG_FILE: there is no file absent.yaml. Example: ", refusal())


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("BTCUSDT, ETHUSDT ,BTCUSDT", ("BTCUSDT", "ETHUSDT")),
        ("币安人生USDT,1000PEPEUSDT", ("币安人生USDT", "1000PEPEUSDT")),
        ("BTCUSDT_261225", ("BTCUSDT_261225",)),
        ("ALL", "all"),
    ],
)
def test_symbols_are_a_list_or_all(monkeypatch, text, symbols):
    monkeypatch.setenv("PIPELINE_SYMBOLS", text)
    assert load_settings().symbols == symbols


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("SYMBOLS", "", "must be `all` or a list"),
        ("SYMBOLS", ",", "must be `all` or a list"),
        ("SYMBOLS", "btcusdt", "'btcusdt' is not a symbol"),
        ("SYMBOLS", "BTC/USDT", "'BTC/USDT' is not a symbol"),
        ("DATA_DIR", "", "must name a directory"),
        ("BINANCE__REST_URL", "fapi.binance.com", "must be an address that starts with http://"),
        ("BINANCE__REST_URL", "", "must not be empty"),
        ("BINANCE__REST_URL", "http://", "must be an address"),
        ("BINANCE__REST_URL", "http://:8080", "must be an address"),
        ("BINANCE__REST_URL", "http://h:70000", "must have a port from 1 to 65535, or none"),
        ("S3__ENDPOINT_URL", "http://127.0.0.1:abc", "must have a port from 1 to 65535, or none"),
        ("S3__ENDPOINT_URL", "http://127.0.0.1:0", "must have a port from 1 to 65535, or none"),
        ("REPAIR__SINCE", "last year", "valid date"),
        ("BINANCE__ARCHIVE_URL", "ftp://archive", "must be an address that starts with http://"),
        ("BINANCE__ARCHIVE", "sometimes", "valid boolean"),
        ("BINANCE__STREAM_URL", "https://fstream.binance.com", "starts with ws:// or wss://"),
        ("BINANCE__SETTLE_MS", "soon", "valid integer"),
        ("BINANCE__SETTLE_MS", "-1", "greater than or equal to 0"),
        ("BINANCE__WEIGHT_LIMIT", "1", "greater than or equal to 10"),
        ("BINANCE__WEIGHT_MARGIN", "2400", "must be less than the weight limit 2400"),
        ("BINANCE__EGRESS", "{203.0.113.7}", "should match pattern"),
        ("BINANCE__EGRESS", "999.1.1.1", "looks like an address and is none"),
        ("BINANCE__EGRESS", "203.0.113", "looks like an address and is none"),
        ("BINANCE__EGRESS", "203.0.113.O7", "looks like an address and is none"),
        ("BINANCE__EGRESS", "203.0.113.7:443", "without a port"),
        ("BINANCE__EGRESS", "2001:db8:::1", "looks like an address and is none"),
        ("BINANCE__EGRESS", "2001:db8::1g", "looks like an address and is none"),
        ("BINANCE__CONCURRENCY", "0", "greater than or equal to 1"),
        ("BINANCE__TIMEOUT_SECONDS", "0", "greater than 0"),
        ("BINANCE__RETRIES", "", "must not be empty"),
        ("BINANCE__RETRIES", "21", "less than or equal to 20"),
        ("CELERY__BROKER_URL", "http://broker", "must be an address that starts with redis://"),
        (
            "CELERY__BROKER_URL",
            "redis://:geheim@broker:99999/0",
            "must have a host, and no port or",
        ),
        ("CELERY__BROKER_URL", "redis://:gehe/im@broker/0", "must have a host, and no port or"),
        ("CELERY__BROKER_URL", "redis://:gehe@im#1@broker/0", "must have a host, and no port or"),
        ("CELERY__BROKER_URL", "redis+cluster://a", "must not be a cluster: Celery knows no"),
        ("CELERY__BROKER_URL", "redis+sentinel://a", "must end with the name by which the"),
        ("CELERY__BROKER_URL", "sentinel://a/0", "redis+sentinel:// or amqp://"),
        ("CELERY__BROKER_URL", "redis://:geheim@broker/first", "number of a Redis database"),
        ("S3__ENDPOINT_URL", "127.0.0.1:9000", "must be an address that starts with http://"),
        ("S3__BUCKET", "ab", "at least 3 characters"),
        ("S3__BUCKET", "", "must not be empty"),
        ("S3__CONCURRENCY", "65", "less than or equal to 64"),
        ("REDIS__URL", "localhost:6379", "starts with redis://"),
        ("TRADING__JOURNAL_URL", "mysql://db", "starts with postgresql://"),
        ("TRADING__JOURNAL_URL", "postgresql://u:a@geheim@h/d", "write %40 for @"),
        ("DAGSTER__STORAGE_URL", "postgresql://u:a@geheim@h/d", "write %40 for @"),
        ("DAGSTER__STORAGE_URL", "postgresql://u:geheim/a@h", "write %40 for @, %2F for /"),
        ("AIRFLOW__DATABASE_URL", "postgresql://u:a@geheim@h/d", "write %40 for @"),
        ("TRADING__API_KEY", "geheim\r", "must have no spaces and no line ends"),
        ("TRADING__API_SECRET", "gehe im", "must have no spaces and no line ends"),
        ("GATEWAY__TOKEN", "short", "The token must have 16 characters or more."),
        ("REDIS__URL", "redis://h:notaport/0", "must have a port from 1 to 65535, or none"),
        ("REDIS__URL", "redis://h:99999/0", "must have a port from 1 to 65535, or none"),
        ("REDIS__URL", "redis://a,b:6379", "must start with redis+cluster:// (nodes of a cluster)"),
        ("REDIS__URL", "redis+cluster://a,", "must name hosts, separated by commas"),
        ("REDIS__URL", "redis+cluster://a/1", "must not name a database other than /0"),
        ("REDIS__URL", "redis+cluster://a?db=0", "must not have options after ? or #"),
        ("REDIS__URL", "redis+sentinel://a:26379", "must end with the name by which the sentinels"),
        ("REDIS__URL", "redis://h/slots", "must end with the number of a database, like /0"),
        ("REDIS__SLOT_TTL_SECONDS", "60", "greater than or equal to 900"),
        ("REDIS__TIMEOUT_SECONDS", "0", "greater than 0"),
        ("SNOWFLAKE__ACCOUNT", "", "must not be empty"),
        ("SNOWFLAKE__DATABASE", "market data", "match pattern"),
        ("SNOWFLAKE__SCHEMA_NAME", 'A"; DROP', "match pattern"),
        ("SNOWFLAKE__PORT", "70000", "less than or equal to 65535"),
        ("SNOWFLAKE__PROTOCOL", "ftp", "'http' or 'https'"),
        ("SNOWFLAKE__TIMEOUT_SECONDS", "0", "greater than or equal to 1"),
        ("KAFKA__BOOTSTRAP_SERVERS", "localhost", "must be host:port"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:9092,b:65536", "must be host:port"),
        ("KAFKA__TOPIC", "the candidates", "match pattern"),
        ("KAFKA__SECURITY_PROTOCOL", "TLS", "'SASL_SSL'"),
        ("KAFKA__SASL_MECHANISM", "GSSAPI", "'SCRAM-SHA-512'"),
        ("KAFKA__DELIVERY_TIMEOUT_MS", "10", "greater than or equal to 1000"),
        ("DAGSTER__HOST", "", "must not be empty"),
        ("DAGSTER__WEBSERVER_PORT", "0", "greater than or equal to 1"),
        ("DAGSTER__CODE_SERVER_PORT", "x", "valid integer"),
        ("DAGSTER__SCHEDULES", "perhaps", "valid boolean"),
        ("HOUSEKEEPING__STAGING_DAYS", "0", "greater than or equal to 1"),
        ("HOUSEKEEPING__TICK_RUN_DAYS", "1.5", "valid integer"),
    ],
)
def test_wrong_value_shows_key_and_example(monkeypatch, key, value, problem):
    """The error for a wrong value shows its key, the problem and an example."""
    monkeypatch.setenv(f"PIPELINE_{key}", value)
    message = refusal()
    (line,) = [line for line in message.splitlines() if line.strip().startswith("PIPELINE_")]
    assert line.strip().startswith(f"PIPELINE_{key}: ")
    assert problem in line
    example = line.partition(f" Example: PIPELINE_{key}=")[2]
    monkeypatch.setenv(f"PIPELINE_{key}", example)
    load_settings()


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("203.0.113.7", "203.0.113.7"),
        # Two spellings of one address are one budget.
        ("2001:DB8:0::1", "2001:db8::1"),
        *((name, name) for name in ("office", "nat-1.2", "42", "dc1:rack:7", "eu.example.com")),
    ],
)
def test_egress_is_address_or_name(monkeypatch, value, taken):
    monkeypatch.setenv("PIPELINE_BINANCE__EGRESS", value)
    assert load_settings().binance.egress == taken


def test_broker_credentials_need_both_parts(monkeypatch):
    """A broker that asks for credentials needs both user and password."""
    monkeypatch.setenv("PIPELINE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    said = "must be set, because the security protocol is SASL_SSL"
    message = refusal()
    for key in ("USERNAME", "PASSWORD"):
        assert f"PIPELINE_KAFKA__SASL_{key}: {said}" in message
        monkeypatch.setenv(f"PIPELINE_KAFKA__SASL_{key}", HIDDEN)
    assert load_settings().kafka.sasl_username == HIDDEN


def test_bootstrap_servers_may_have_blanks(monkeypatch):
    """Several bootstrap servers may have blanks between them."""
    monkeypatch.setenv("PIPELINE_KAFKA__BOOTSTRAP_SERVERS", "a.example.com:9092, [::1]:9093")
    kafka = load_settings().kafka
    assert kafka.bootstrap_servers == "a.example.com:9092,[::1]:9093"
    assert kafka.servers == (("a.example.com", 9092), ("[::1]", 9093))


def test_all_wrong_settings_are_reported(empty_directory, monkeypatch):
    """All wrong settings are reported at once."""
    (empty_directory / "config.yaml").write_text("s3: {concurrency: 0}")
    monkeypatch.setenv("PIPELINE_BINANCE__RETRIES", "many")
    message = refusal()
    assert "PIPELINE_S3__CONCURRENCY" in message
    assert "PIPELINE_BINANCE__RETRIES" in message


@pytest.mark.parametrize(
    "name", ["PIPELINE_S3__BUKET", "PIPELINE_S3_BUCKET", "PIPELINE_SYMBOL", "PIPELINE_KAFKA__X"]
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_misspelt_key_is_reported(empty_directory, monkeypatch, name, where):
    """A misspelt key is an error."""
    if where == ".env":
        (empty_directory / ".env").write_text(f"{name}=my-candles\n")
    else:
        monkeypatch.setenv(name, "my-candles")
    assert f"{name}: there is no such setting; config.yaml lists all of them" in refusal()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("binance: {settle: 3}", "PIPELINE_BINANCE__SETTLE: there is no such setting"),
        ("symbols: [BTCUSDT, 1]", "PIPELINE_SYMBOLS: 1 is not a symbol"),
        ("s3: [1]", "PIPELINE_S3: "),
        ("- symbols", "config.yaml must hold a mapping of settings, like `symbols: all`"),
        ("s3:\n  bucket: \a", "config.yaml is not valid YAML: a control character in line 2"),
        ("a: b: c", "config.yaml is not valid YAML: mapping values are not allowed here in line 1"),
    ],
)
def test_malformed_config_file_is_explained(empty_directory, content, said):
    """The error for a malformed config file says what the file should hold."""
    (empty_directory / "config.yaml").write_text(content)
    assert said in refusal()


def test_section_needs_single_variables(monkeypatch):
    """A section is not set as a whole by a variable."""
    monkeypatch.setenv("PIPELINE_BINANCE", "fast")
    message = refusal()
    assert '"binance"' in message
    assert "PIPELINE_BINANCE__SETTLE_MS=2000" in message


# Secrets


@pytest.mark.parametrize(("section", "key"), SECRETS)
@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_secret_in_config_is_refused(empty_directory, section, key, spelt):
    """A secret in config.yaml is refused and not repeated."""
    (empty_directory / "config.yaml").write_text(f"{spelt(section)}: {{{spelt(key)}: {HIDDEN}}}")
    message = refusal()
    assert f"{section}.{key} is a secret" in message
    assert f"PIPELINE_{section}__{key}=".upper() in message
    assert HIDDEN not in message


def test_every_secret_in_config_is_refused():
    """Every secret setting is refused in config.yaml."""
    secret = {
        (section, name)
        for section, held in Settings.model_fields.items()
        if isinstance(held.default, BaseModel)
        for name, field in type(held.default).model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert secret == set(SECRETS)


@pytest.mark.parametrize(("section", "key"), SECRETS)
def test_secrets_come_from_environment_only(monkeypatch, section, key):
    """Secrets come from the environment and are never shown."""
    addresses = {
        "webhook_url": f"https://hooks/{HIDDEN}",
        "broker_url": f"rediss://:{HIDDEN}@hooks/0",
        "journal_url": f"postgresql://hooks/{HIDDEN}",
        "properties": f'{{"client.rack":"{HIDDEN}"}}',
        "database_url": f"postgresql://user:{HIDDEN}@hooks/airflow",
        "storage_url": f"postgresql://user:{HIDDEN}@hooks/dagster",
    }
    value = addresses.get(key, HIDDEN)
    monkeypatch.setenv("PIPELINE_S3__ACCESS_KEY_ID", "AKIATESTS")
    monkeypatch.setenv("PIPELINE_S3__SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv(f"PIPELINE_{section}__{key}".upper(), value)
    settings = load_settings()
    held = getattr(getattr(settings, section), key)
    if isinstance(held, dict):
        held, value = held["client.rack"], HIDDEN
    assert isinstance(held, SecretStr)
    assert held.get_secret_value() == value
    for shown in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
    ):
        assert HIDDEN not in shown
    monkeypatch.setenv("PIPELINE_BINANCE__RETRIES", "many")
    assert HIDDEN not in refusal()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{HIDDEN}@redis:6379/0",
        f"redis://:{HIDDEN}@redis",
        f"redis://redis:6379/0?password={HIDDEN}",
    ],
)
def test_redis_url_password_is_refused(monkeypatch, url):
    """A password in the Redis address is refused and not repeated."""
    monkeypatch.setenv("PIPELINE_REDIS__URL", url)
    message = refusal()
    assert "PIPELINE_REDIS__URL: must not carry a password" in message
    assert "set PIPELINE_REDIS__PASSWORD instead" in message
    assert HIDDEN not in message


def test_invalid_yaml_line_is_not_repeated(empty_directory):
    """A line that is not YAML is not repeated, since it may hold a secret."""
    (empty_directory / "config.yaml").write_text(f"redis:\n  password: '{HIDDEN}\n  a: b\n")
    message = refusal()
    assert "config.yaml is not valid YAML" in message
    assert HIDDEN not in message


def test_secrets_have_no_default():
    """No secret and no key has a default."""
    settings = Settings(_env_file=None)
    assert settings.s3.access_key_id is None
    for section, key in SECRETS:
        assert getattr(getattr(settings, section), key) is None, f"{section}.{key}"


@pytest.mark.parametrize(
    ("name", "state"),
    [("ACCESS_KEY_ID", "is missing, and"), ("SECRET_ACCESS_KEY", "is set, and")],
)
def test_half_s3_credential_is_refused(monkeypatch, name, state):
    """Half of an S3 credential is refused."""
    monkeypatch.setenv(f"PIPELINE_S3__{name}", HIDDEN)
    message = refusal()
    assert f"PIPELINE_S3__SECRET_ACCESS_KEY: {state} PIPELINE_S3__ACCESS_KEY_ID is" in message
    assert "set both, or neither" in message
    assert HIDDEN not in message


# Files as editors and other systems write them


@pytest.mark.parametrize(
    "line", ["X=pa${HOME}ss", "X='pa${HOME}ss'", 'X="pa${HOME}ss"', "export X=pa${HOME}ss"]
)
def test_env_file_values_are_literal(empty_directory, line):
    """Values of the .env file are literal.

    python-dotenv would replace ${HOME}, in quotes too.
    """
    (empty_directory / ".env").write_text(line.replace("X=", "PIPELINE_REDIS__PASSWORD="))
    assert load_settings().redis.password.get_secret_value() == "pa${HOME}ss"


@pytest.mark.parametrize("value", ["${HOME}/pipeline", "/data/$USER", "/data/why?"])
def test_variable_in_data_directory_is_refused(empty_directory, value):
    """A data directory with a variable in it is refused."""
    (empty_directory / ".env").write_text(f"PIPELINE_DATA_DIR={value}")
    assert "PIPELINE_DATA_DIR: must not contain $ or ?" in refusal()


def test_unparsable_env_line_is_named(empty_directory):
    """A line of the .env file that cannot be parsed is named.

    python-dotenv would go on without that setting.
    """
    text = f"PIPELINE_S3__BUCKET=lake\nPIPELINE_REDIS__PASSWORD='{HIDDEN}\n"
    (empty_directory / ".env").write_text(text)
    message = refusal()
    assert ".env: line 2 is not NAME=value, or a quotation mark is not closed" in message
    assert HIDDEN not in message


CONTENT = {
    "config.yaml": "# für alle\ns3: {bucket: lake}\n",
    ".env": "# für alle\nPIPELINE_S3__BUCKET=lake\n",
}


@pytest.mark.parametrize("name", CONTENT)
def test_byte_order_mark_is_ignored(empty_directory, name):
    """A byte order mark is ignored."""
    text = CONTENT[name].partition("\n")[2]
    (empty_directory / name).write_text(text, encoding="utf-8-sig")
    assert load_settings().s3.bucket == "lake"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "line 1: the file is UTF-16"),
        ("utf-16-le", "line "),
        ("latin-1", "line 2 is not UTF-8"),
    ],
)
@pytest.mark.parametrize("name", CONTENT)
def test_other_encodings_name_file_and_line(empty_directory, name, encoding, said):
    """The error for another encoding than UTF-8 names file and line."""
    (empty_directory / name).write_text(f"# first\n{CONTENT[name]}", encoding=encoding)
    assert f"{name}: {said}" in (message := refusal())
    assert "Save the file as UTF-8" in message


# The credentials of the embedded stack


@pytest.fixture
def made(empty_directory, monkeypatch) -> dict[str, str]:
    """Provide the credentials of a stack that was started over this data directory."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(empty_directory / "data"))
    return make_credentials(empty_directory / "data")


def credentials_of(settings: Settings) -> dict[str, str | None]:
    held = {
        "PIPELINE_S3__ACCESS_KEY_ID": settings.s3.access_key_id,
        "PIPELINE_S3__SECRET_ACCESS_KEY": settings.s3.secret_access_key,
        "PIPELINE_REDIS__PASSWORD": settings.redis.password,
        "PIPELINE_SNOWFLAKE__PASSWORD": settings.snowflake.password,
        "PIPELINE_GATEWAY__TOKEN": settings.gateway.token,
    }
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in held.items()
    }


def test_embedded_systems_get_made_credentials(made):
    """Embedded systems get the credentials that the stack made."""
    assert credentials_of(load_settings()) == made


def test_without_stack_no_credentials_exist(empty_directory):
    """Without a stack there are no credentials."""
    assert set(credentials_of(load_settings()).values()) == {None}
    assert not (empty_directory / ".pipeline").exists(), "reading settings makes nothing"


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_own_credentials_override_embedded_ones(made, empty_directory, monkeypatch, where):
    """A person's own credentials override the embedded ones."""
    if where == ".env":
        lines = [f"{name}=own-credential-{number}\n" for number, name in enumerate(made)]
        (empty_directory / ".env").write_text("".join(lines))
    else:
        for number, name in enumerate(made):
            monkeypatch.setenv(name, f"own-credential-{number}")
    own = {name: f"own-credential-{number}" for number, name in enumerate(made)}
    assert credentials_of(load_settings()) == own


@pytest.mark.parametrize(
    ("section", "address"),
    [
        ("S3", {"S3__ENDPOINT_URL": ""}),
        ("S3", {"S3__ENDPOINT_URL": "http://s3.example.com:9000"}),
        ("S3", {"S3__ENDPOINT_URL": "https://127.0.0.1:9000"}),
        ("REDIS", {"REDIS__URL": "redis://cache.example.com:6379/0"}),
        ("REDIS", {"REDIS__URL": "rediss://127.0.0.1:6379/0"}),
        ("SNOWFLAKE", {"SNOWFLAKE__HOST": ""}),
        ("SNOWFLAKE", {"SNOWFLAKE__PROTOCOL": "https"}),
        ("SNOWFLAKE", {"SNOWFLAKE__PRIVATE_KEY_PATH": "/run/secrets/snowflake.p8"}),
        ("GATEWAY", {"GATEWAY__HOST": "0.0.0.0"}),
    ],
)
def test_embedded_credentials_stay_inside(made, monkeypatch, section, address):
    """Embedded credentials never reach a system elsewhere."""
    for name, value in address.items():
        monkeypatch.setenv(f"PIPELINE_{name}", value)
    held = credentials_of(load_settings())
    for name, value in made.items():
        assert held[name] == (None if name.startswith(f"PIPELINE_{section}") else value), name


def test_damaged_credentials_file_says_remedy(made, empty_directory):
    """The error for a damaged credentials file says what to do."""
    file = empty_directory / "data" / "credentials.env"
    file.write_text(f"# made\nPIPELINE_REDIS__PASSWORD {HIDDEN}\n")
    message = refusal()
    assert f"{file}: line 2 is not NAME=value. Stop the stack, remove the file" in message
    assert HIDDEN not in message


# The files that explain the settings


def flat(values: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in values.items():
        key = (*above, name)
        found |= flat(value, key) if isinstance(value, dict) else {key: value}
    return found


def test_config_lists_every_public_setting():
    """config.yaml lists every setting but secrets, with its default."""
    listed = flat(yaml.safe_load((ROOT / "config.yaml").read_text("utf-8")))
    # JSON for paths and tuples; secrets are left out of both by name.
    defaults = flat(Settings(_env_file=None).model_dump(mode="json"))
    defaults = {key: value for key, value in defaults.items() if key not in SECRETS}
    listed["data_dir",] = str(Path(listed["data_dir",]).resolve())
    assert listed == defaults


def test_env_example_names_every_setting(monkeypatch):
    text = (ROOT / ".env.example").read_text("utf-8")
    named = re.findall(r"^# (PIPELINE_\w+)=(\S*)", text, re.MULTILINE)
    existing = {
        "PIPELINE_" + "__".join(key).upper()
        for key in flat(Settings(_env_file=None).model_dump(mode="json"))
    }
    assert {name for name, _ in named} == existing
    for name, value in named:
        monkeypatch.setenv(name, value)
    load_settings()


def field_of(name: str) -> FieldInfo:
    """Return the field of a setting by its name in the environment."""
    section, _, key = name.removeprefix("PIPELINE_").lower().partition("__")
    field = Settings.model_fields[section]
    return type(field.default).model_fields[key] if key else field


def defaults() -> dict[str, Any]:
    """Return the default of every setting that has one, by its name in the environment."""
    values = flat(Settings(_env_file=None).model_dump())
    return {"PIPELINE_" + "__".join(key).upper(): value for key, value in values.items()}


def same(text: str, default: Any) -> bool:
    return float(text) == default if isinstance(default, float) else text == str(default)


def test_env_example_shows_real_defaults() -> None:
    """.env.example shows an example, or the default as it is."""
    text = (ROOT / ".env.example").read_text("utf-8")
    shown = dict(re.findall(r"^# (PIPELINE_\w+)=(\S*)", text, re.MULTILINE))
    held = defaults()
    stale = {
        name: value
        for name, value in shown.items()
        if value and not field_of(name).examples and not same(value, held[name])
    }
    assert stale == {}
    repeated = {name for name, value in shown.items() if field_of(name).examples}
    repeated &= {name for name, value in shown.items() if same(value, held[name])}
    assert repeated == set(), "an example that is the default says nothing"


DOCUMENTS = [
    "README.md",
    "config.yaml",
    *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("file", sorted(DOCUMENTS))
def test_documents_repeat_defaults_correctly(file: str) -> None:
    """Documents repeat defaults and addresses as they are.

    A document names a default as `PIPELINE_KEY` (value), and a public address as PIPELINE_KEY=value.
    """
    text, held = (ROOT / file).read_text("utf-8"), defaults()
    said = re.findall(r"`(PIPELINE_\w+)`(?:\s+days)?\s+\(([\d.]+)\)", text)
    assert [name for name, value in said if not same(value, held[name])] == []
    assert said or file != "docs/operations.md"
    for name, value in re.findall(r"(PIPELINE_BINANCE__\w+_URL)=([^\s`]+)", text):
        assert PRODUCTION_BINANCE[name] == value
    ports = {str(value) for name, value in held.items() if name.endswith("PORT")}
    ports |= set(re.findall(r":(\d+)", " ".join(map(str, held.values()))))
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", text)) <= ports


def test_config_shows_strategy_parameters() -> None:
    """config.yaml shows every strategy's parameters as they are."""
    text = (ROOT / "config.yaml").read_text("utf-8")
    said = re.findall(r"^  - \{name: (\w+)\} +# (.*)$", text, re.MULTILINE)
    for name, parameters in said:
        (strategy,) = configured_strategies([StrategySettings(name=name)])
        assert yaml.safe_load(f"{{{parameters}}}") == strategy.parameters.model_dump()
    assert len(said) == len(Settings(_env_file=None).strategies)


def test_exchange_has_the_same_defaults() -> None:
    """The replay exchange has the same defaults.

    It imports nothing of the product, and so writes them a second time.
    """
    options = {option.name: option.default for option in exchange.params}
    held = BinanceSettings()
    addresses = {held.rest_url, held.archive_url, held.stream_url}
    assert {urlsplit(address).port for address in addresses} == {options["port"]}
    assert options["weight_limit"] == held.weight_limit == WeightBudget().limit


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("user", "USER"),
        ("role", "ROLE"),
        ("warehouse", "WAREHOUSE"),
        ("database", "DATABASE"),
        ("storage_integration", "STORAGE INTEGRATION"),
    ],
)
def test_snowflake_examples_match_account_sql(key, kind):
    """The examples for Snowflake match what the SQL for an account creates."""
    (file,) = (ROOT / "pipeline_assets").rglob("production.sql")
    field = SnowflakeSettings.model_fields[key]
    example = field.examples[0] if field.examples else field.default
    made = f"CREATE {kind} IF NOT EXISTS {example}"
    assert re.search(rf"^{made}\b", file.read_text("utf-8"), re.MULTILINE)
    text = (ROOT / ".env.example").read_text("utf-8")
    assert re.search(rf"^# PIPELINE_SNOWFLAKE__{key.upper()}={example}$", text, re.MULTILINE)

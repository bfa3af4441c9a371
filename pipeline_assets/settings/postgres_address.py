"""The form of an address of PostgreSQL, for every section that has one. How the database is connected to does
not belong here.
"""

import re

from pydantic import SecretStr

# Several hosts are allowed, as the server's own library takes them: host1:5432,host2:5432.
# A second @ is refused: libpq ends the password at the first one, takes the rest for the host, and its
# error, which we show, would then name a part of the password.
_WITH_DATABASE = re.compile(
    r"postgres(ql)?(\+psycopg2)?://([^/@]*@[^/@]*|[^/@]+)/[^/?@]+(\?.*)?", re.DOTALL
)
_ANY = re.compile(r"postgres(ql)?://[^/@]*(@[^/@]*)?(/[^?@]*)?(\?.*)?", re.DOTALL)
_ESCAPES = "in a password write %40 for @, %2F for / and %25 for %"


def postgres_address(value: SecretStr | None) -> SecretStr | None:
    """Refuse an address of another form. No message repeats a part of it: the part may be secret.

    Raises:
        ValueError: the address has another form.
    """
    if value is not None and not _ANY.fullmatch(value.get_secret_value()):
        raise ValueError(f"must be an address that starts with postgresql://; {_ESCAPES}")
    return value


def postgres_database(value: SecretStr | None) -> SecretStr | None:
    """Likewise refuse an address that does not end with the name of a database.

    Raises:
        ValueError: the address has another form.
    """
    if value is not None and not _WITH_DATABASE.fullmatch(value.get_secret_value()):
        raise ValueError(
            "must be an address that starts with postgresql:// and ends with the name of a database; "
            f"{_ESCAPES}"
        )
    return value

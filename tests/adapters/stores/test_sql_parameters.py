"""Check the parameters of databases' addresses: those that clouds print work, or are named."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from sqlalchemy import text

from tests.support.services import MYSQL, POSTGRES, require
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_engines import make_database
from wxpay_async.adapters.stores.sql_parameters import spell_hosts, translate
from wxpay_async.errors import InvalidRequestError


def _translate(address: str, timeout: float = 10.0) -> dict[str, Any]:
    return translate(SqlStore(address).url, timeout)[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an authority's certificate to a file."""
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:p@h/d?sslmode=require",
        "postgres://u:p@h:6543/d?pgbouncer=true&connect_timeout=15",
        "postgresql://u:p@h/d?sslmode=require&channel_binding=prefer",
        "postgresql://u:p@h/d?ssl=true",
        "postgresql://u:p@h/d?ssl=require&application_name=shop&target_session_attrs=read-write",
        "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=system",
        "postgresql://u:p@h/d?options=-c%20search_path%3Dshop",
        "postgresql://u:p@/d?host=/var/run/postgresql",
        "postgresql://u:p@/d?host=a:5432&host=b:5432&target_session_attrs=read-write",
        "postgresql+psycopg://u:p@h/d?sslmode=require&channel_binding=require",
        "postgresql+psycopg://u:p@h/d?ssl=true&connect_timeout=15&application_name=shop",
        "postgresql+psycopg://u:p@/d?host=/var/run/postgresql",
        "mysql://u:p@h/d?ssl-mode=REQUIRED",
        "mysql://u:p@h/d?ssl_mode=PREFERRED",
        "mysql://u:p@h/d?sslmode=require",
        "mysql://u:p@h/d?ssl=true&charset=utf8mb4",
        "mysql://u:p@h/d?ssl_verify_cert=true&ssl_verify_identity=true&connect_timeout=10",
        "mysql://u:p@/d?unix_socket=/run/mysqld/mysqld.sock",
    ],
)
def test_address_that_a_cloud_prints_makes_a_store(address: str) -> None:
    """Nothing of it is refused, when the store is made or later."""
    store_from_url(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://u:p@h/d?sslmode=s3cr3t", "sslmode: no such mode; allowed: disable"),
        ("postgresql://u:p@h/d?ssl=s3cr3t", "sslmode: no such mode"),
        ("postgresql://u:p@h/d?sslrootcert=/s3cr3t", "sslrootcert: no such file"),
        ("postgresql://u:p@h/d?sslrootcert=system&sslmode=require", "too weak"),
        ("postgresql://u:p@h/d?channel_binding=require", "channel_binding: asyncpg cannot"),
        ("postgresql://u:p@h/d?keepalives=s3cr3t", "keepalives: asyncpg knows no such parameter"),
        ("postgresql://u:p@h/d?s3cr3t%20=1", "a parameter: asyncpg knows no"),
        ("postgresql://u:p@h/d?connect_timeout=s3cr3t", "connect_timeout: no number"),
        ("postgresql://u:p@h/d?connect_timeout=-1", "connect_timeout: no number"),
        ("postgresql://u:p@h/d?statement_cache_size=s3cr3t", "a size is no number"),
        ("postgresql+psycopg://u:p@h/d?nonsense=s3cr3t", "nonsense: psycopg knows no"),
        ("postgresql+psycopg://u:p@h/d?statement_cache_size=5", "a parameter of asyncpg"),
        ("postgresql+psycopg://u:p@h/d?prepare_threshold=x", "a size is no number"),
        ("mysql://u:p@h/d?ssl_mode=s3cr3t", "ssl_mode: no such mode; allowed: DISABLED"),
        ("mysql://u:p@h/d?ssl_ca=/s3cr3t", "ssl_ca: no certificates"),
        ("mysql://u:p@h/d?ssl_check_hostname=s3cr3t", "neither true nor false"),
        ("mysql://u:p@h/d?charset=latin1", "charset: not wide enough"),
        ("mysql://u:p@h/d?autocommit=s3cr3t", "autocommit: asyncmy knows no"),
    ],
)
def test_parameter_that_cannot_work_is_named_when_the_store_is_made(
    address: str, said: str
) -> None:
    """Not with the first payment. A value is not repeated: it may be a password."""
    with pytest.raises(InvalidRequestError, match=said) as raised:
        store_from_url(address)

    assert "url" == raised.value.field
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "spelt"),
    [
        ("postgresql://u:p,@h/d", None),
        ("postgresql://u:p@[::1]:5433/d", None),
        ("mysql://u:p@a,b/d", None),
        ("postgresql://u:p@a:1,b/d", "postgresql://u:p@/d?host=a%3A1&host=b%3A5432"),
        (
            "postgres://a,b?sslmode=require",
            "postgres://?sslmode=require&host=a%3A5432&host=b%3A5432",
        ),
        ("postgresql+psycopg://u@%2Frun/d", "postgresql+psycopg://u@/d?host=%2Frun&port=5432"),
        ("postgresql://u@%2frun:5433/d", "postgresql://u@/d?host=%2Frun&port=5433"),
    ],
)
def test_hosts_as_libpq_writes_them_are_read(address: str, spelt: str | None) -> None:
    """Several of them, and a folder of a socket file."""
    assert (spelt or address) == spell_hosts(address)


async def test_one_host_of_several_is_enough() -> None:
    """The first that can be reached is used, by either driver."""
    url = urlsplit(require(POSTGRES))
    login, _, there = url.netloc.rpartition("@")
    with socket.create_server(("127.0.0.1", 0)) as free:
        absent = free.getsockname()[1]
    for driver in ("asyncpg", "psycopg"):
        store = SqlStore(f"postgresql+{driver}://{login}@127.0.0.1:{absent},{there}{url.path}")
        database = make_database(store.url, timeout=10.0, connections=1)
        assert 1 == await database.transact(
            lambda connection: connection.execute(text("SELECT 1")).scalar_one()
        )
        await database.close()


def test_nothing_is_prepared_on_a_server_unless_the_address_asks_for_it() -> None:
    """A statement that is prepared stays behind when a pooler lends another server."""
    plain = _translate("postgresql://h/d")
    asked = _translate("postgresql://h/d?prepared_statement_cache_size=50")
    psycopg = _translate("postgresql+psycopg://h/d")
    eager = _translate("postgresql+psycopg://h/d?prepare_threshold=5")

    assert 0 == plain["statement_cache_size"]
    assert (50, 50) == (asked["statement_cache_size"], asked["prepared_statement_cache_size"])
    assert (None, 5) == (psycopg["prepare_threshold"], eager["prepare_threshold"])


def test_time_for_connecting_is_the_stores_at_most() -> None:
    """A shorter one of the address is kept."""
    assert 3.0 == _translate("postgresql://h/d?connect_timeout=3")["timeout"]
    assert 10.0 == _translate("postgresql://h/d?connect_timeout=60")["timeout"]
    assert 3.0 == _translate("mysql://h/d?connect_timeout=3")["connect_timeout"]


def test_words_for_tls_reach_asyncpg(authority: Path) -> None:
    """They go where asyncpg reads them: into an address of its own form."""
    address = f"postgresql://h/d?sslmode=verify-full&sslrootcert={authority}"
    dsn = _translate(address)["dsn"]

    assert "sslmode=verify-full" in dsn
    assert "sslrootcert=" in dsn


def test_authorities_of_the_system_are_asyncpgs_too() -> None:
    """As with libpq, they come with the check of the host's name."""
    arguments = _translate("postgresql://h/d?sslrootcert=system")

    assert "dsn" not in arguments
    assert arguments["ssl"].check_hostname


@pytest.mark.parametrize(
    ("query", "verified", "named"),
    [
        ("ssl_mode=PREFERRED", ssl.CERT_NONE, False),
        ("ssl-mode=required", ssl.CERT_NONE, False),
        ("ssl=true", ssl.CERT_NONE, False),
        ("ssl_mode=VERIFY_CA", ssl.CERT_REQUIRED, False),
        ("ssl_mode=verify-ca", ssl.CERT_REQUIRED, False),
        ("ssl_ca={ca}", ssl.CERT_REQUIRED, False),
        ("ssl-ca={ca}&ssl_check_hostname=true", ssl.CERT_REQUIRED, True),
        ("ssl_verify_cert=true", ssl.CERT_REQUIRED, False),
        ("ssl_verify_cert=true&ssl_verify_identity=true", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-full&ssl_ca={ca}", ssl.CERT_REQUIRED, True),
        ("ssl_mode=VERIFY_IDENTITY", ssl.CERT_REQUIRED, True),
    ],
)
def test_words_for_tls_reach_asyncmy(
    query: str, verified: ssl.VerifyMode, *, named: bool, authority: Path
) -> None:
    """Each asks for what MySQL's own client would do."""
    context = _translate(f"mysql://h/d?{query.format(ca=authority)}")["ssl"]

    assert (verified, named) == (context.verify_mode, context.check_hostname)


@pytest.mark.parametrize("query", ["", "?ssl_mode=DISABLED", "?ssl=false"])
def test_mysql_without_a_word_for_tls_has_none(query: str) -> None:
    """As it was; the login does not need it."""
    assert "ssl" not in _translate(f"mysql://h/d{query}")


async def test_mariadb_is_told_when_silence_ends_a_transaction() -> None:
    """Beside the strict mode, which it shares with MySQL; to MySQL it is a comment."""
    said = _translate("mysql://h/d")["init_command"]
    command, comment = said.split("/*", 1)
    assert "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES') " == command
    assert re.fullmatch(r"M!100300[^*]*\*/", comment)  # `/*!` MySQL would execute

    database = make_database(SqlStore(require(MYSQL)).url, timeout=10.0, connections=1)
    query = "SELECT @@idle_transaction_timeout, @@sql_mode LIKE '%STRICT_ALL%'"
    found = await database.transact(lambda connection: connection.execute(text(query)).one())
    await database.close()

    assert (15, 1) == tuple(found)

"""Check how the SQL store logs in: over TLS, over a socket file, by MySQL 8's default."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from attrs import define

from tests.contract.stores import open_place
from tests.support.mysql8 import MySql8
from tests.support.processes import run_python
from tests.support.records import make_record
from tests.support.servers import give_to, open_folder
from tests.support.sql_servers import open_mariadb, open_postgres
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import NotSentError
from wxpay_async.extras import how_to_install

# TLS


@define(eq=False)
class _Certificates:
    """Files: an authority's, a stranger's, and the certificate and key of `localhost`."""

    folder: Path

    def __attrs_post_init__(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(str(self.folder / "ca"))
        trustme.CA().cert_pem.write_to_path(str(self.folder / "stranger"))
        issued.cert_chain_pems[0].write_to_path(str(self.folder / "cert"))
        issued.private_key_pem.write_to_path(str(self.folder / "key"))
        self.folder.chmod(0o755)

    def give_key(self, user: str) -> None:
        """Let the user alone read the key, which servers insist on."""
        (self.folder / "key").chmod(0o600)
        give_to(user, self.folder / "key")


@pytest.fixture(scope="module")
def certificates() -> Generator[_Certificates]:
    """Write certificates where servers can read them."""
    with open_folder() as folder:
        yield _Certificates(folder)


@pytest.fixture(scope="module")
def postgres_with_tls(certificates: _Certificates) -> Generator[int]:
    """Run a PostgreSQL that speaks TLS; yields its port."""
    certificates.give_key("postgres")
    files = (f"ssl_{name}_file={certificates.folder / name}" for name in ("cert", "key"))
    with open_postgres("ssl=on", *files) as server:
        yield server.port


@pytest.fixture(scope="module")
def mariadb_with_tls(certificates: _Certificates) -> Generator[int]:
    """Run a MariaDB that speaks TLS, and takes nothing else; yields its port."""
    certificates.give_key("mysql")
    files = (f"--ssl-{name}={certificates.folder / name}" for name in ("cert", "key"))
    with open_mariadb("--require-secure-transport=ON", *files) as server:
        yield server.port


POSTGRES_TLS = (
    ("localhost", "sslmode=require", True),
    ("localhost", "ssl=true", True),
    ("localhost", "sslmode=verify-full&sslrootcert={folder}/ca", True),
    ("127.0.0.1", "sslmode=verify-ca&sslrootcert={folder}/ca", True),
    ("127.0.0.1", "sslmode=verify-full&sslrootcert={folder}/ca", False),
    ("localhost", "sslmode=verify-full&sslrootcert={folder}/stranger", False),
)
MARIADB_TLS = (
    ("localhost", "ssl_mode=REQUIRED", True),
    ("localhost", "ssl-mode=PREFERRED", True),
    ("localhost", "", False),  # the server takes nothing but TLS
    ("127.0.0.1", "ssl_ca={folder}/ca", True),
    ("localhost", "ssl_ca={folder}/ca&ssl_verify_identity=true", True),
    ("127.0.0.1", "ssl_ca={folder}/ca&ssl_verify_identity=true", False),
    ("localhost", "ssl_ca={folder}/stranger", False),
)


@pytest.mark.parametrize(
    ("server", "address", "host", "query", "works"),
    [
        *(
            ("postgres_with_tls", f"postgresql+{driver}://postgres@{{}}/postgres", *case)
            for driver in ("asyncpg", "psycopg")
            for case in POSTGRES_TLS
        ),
        *(("mariadb_with_tls", "mysql://root@{}/mysql", *case) for case in MARIADB_TLS),
    ],
)
async def test_server_is_reached_over_tls(
    server: str,
    address: str,
    host: str,
    query: str,
    *,
    works: bool,
    certificates: _Certificates,
    request: pytest.FixtureRequest,
) -> None:
    """A server that is not the one that the address means gets no login."""
    place = address.format(f"{host}:{request.getfixturevalue(server)}")

    assert works == await _logs_in(f"{place}?{query.format(folder=certificates.folder)}")


@pytest.mark.parametrize(
    ("kind", "query", "works"),
    [
        ("postgres", "sslmode=prefer", True),
        ("postgres", "sslmode=require", False),
        ("mariadb", "ssl_mode=PREFERRED", True),
        ("mariadb", "ssl_mode=REQUIRED", False),
    ],
)
async def test_server_without_tls_is_used_only_if_the_address_allows_it(
    kind: str, query: str, *, works: bool, tmp_path: Path
) -> None:
    """`prefer` goes on without; what is required fails."""
    async with open_place(kind, tmp_path) as place:
        assert works == await _logs_in(f"{place.url}?{query}")


# Socket files


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_postgres_is_reached_over_a_socket_file(driver: str) -> None:
    """Its folder is the host, as libpq has it."""
    with open_postgres() as server:
        folder = server.log.parent
        address = f"postgresql+{driver}://postgres@/postgres?host={folder}&port={server.port}"
        assert await _logs_in(address)


async def test_mariadb_is_reached_over_a_socket_file() -> None:
    """It is named as in its own clients' addresses."""
    with open_mariadb() as server:
        address = f"mysql://root@localhost/mysql?unix_socket={server.log.parent / 'socket'}"
        assert await _logs_in(address)


# MySQL 8


async def test_default_login_of_mysql_8_works_without_tls() -> None:
    """The password is sealed with the server's key."""
    mysql = MySql8()
    async with await asyncio.start_server(mysql.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert not await _logs_in(f"mysql://shop:s3cr3t@127.0.0.1:{port}/shop")

    assert [b"s3cr3t\0"] == mysql.passwords


def test_default_login_of_mysql_8_says_what_is_missing() -> None:
    """The extra `mysql` brings it; if it is gone all the same, the error names it."""
    code = """
import asyncio, sys
sys.modules["cryptography"] = None
from tests.support.mysql8 import MySql8
from tests.support.records import make_record
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import NotSentError

async def main():
    async with await asyncio.start_server(MySql8().serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = SqlStore(f"mysql://shop:s3cr3t@127.0.0.1:{port}/shop")
        try:
            await store.reserve(make_record())
        except NotSentError as error:
            print(error)
        await store.aclose()

asyncio.run(main())
"""
    process = run_python(code)

    assert "MySQL's login needs cryptography" in process.stdout
    assert how_to_install("mysql") in process.stdout


async def _logs_in(address: str) -> bool:
    store = SqlStore(address)
    try:
        await store.load(make_record().key)
    except NotSentError:
        return False
    finally:
        await store.aclose()
    return True

"""The quota and the store, as they are found: reachable, of which version, durable, with rights."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from tests.contract.stores import open_place
from tests.support.redis_places import private_redis
from tests.support.servers import find_free_port, open_folder
from tests.support.services import MYSQL, POSTGRES, require
from tests.support.sql_databases import read_layout, run_sql, write_current, write_version_1
from wxpay_async import Lane, RedisLimiter, SqlStore
from wxpay_async.adapters.stores.redis_layout import VERSION_KEY
from wxpay_async.adapters.stores.sql_schema import VERSION
from wxpay_async.cli.doctor import shared
from wxpay_async.cli.doctor.findings import CONFIGURATION, UNREACHABLE, Finding, Status
from wxpay_async.cli.doctor.shared import check_quota, check_store
from wxpay_async.engine.environment import Settings, make_quota
from wxpay_async.extras import how_to_install
from wxpay_async.protocol.wire import Timeouts

SECRET: Final = "canary-password-5c1"
NOBODY: Final = 65_534


async def check(url: str) -> dict[str, Finding]:
    """Return the lines about a store by their names; they show no password."""
    lines = await check_store(Settings({"WXPAY_STORE_URL": url}))
    assert SECRET not in str([line.to_json() for line in lines])
    return {line.name: line for line in lines}


def assert_failed(line: Finding, words: str, advice: str, code: int = CONFIGURATION) -> None:
    """Check a failure, with what to do."""
    assert (Status.FAILED, code) == (line.status, line.exit_code), line
    assert words in line.text
    assert advice in line.advice


async def make_store(url: str) -> None:
    """Make the tables, as the first call does."""
    store = SqlStore(url)
    await store.open()
    await store.aclose()


def list_files(folder: Path) -> list[Path]:
    """Return what is in a folder."""
    return list(folder.iterdir())


def make_version_1(path: Path) -> None:
    """Make the tables of the first release."""
    with sqlite3.connect(path) as shell:
        for statement in write_version_1("sqlite"):
            shell.execute(statement)
    shell.close()


# The store


@pytest.mark.parametrize("url", ["", "memory://", "sqlite://", "sqlite:///:memory:"])
async def test_store_in_memory_is_a_warning(url: str) -> None:
    """What was sent is forgotten."""
    lines = await check(url)
    assert Status.FAILED not in {line.status for line in lines.values()}
    line = lines.get("durability", lines["store"])
    assert Status.WARNING is line.status


async def test_file_in_use_is_ok_with_its_version(tmp_path: Path) -> None:
    """And durable."""
    await make_store(f"sqlite:///{tmp_path}/s.db")
    lines = await check(f"sqlite:///{tmp_path}/s.db")
    assert {"store": Status.OK, "durability": Status.OK} == {
        name: line.status for name, line in lines.items()
    }
    assert f"layout is of version {VERSION}" in lines["store"].text
    assert lines["durability"].facts["durable"]


async def test_file_that_is_not_there_is_a_warning_and_not_made(tmp_path: Path) -> None:
    """A first start, or a wrong path: a person knows."""
    line = (await check(f"sqlite:///{tmp_path}/s.db"))["store"]
    assert (Status.WARNING, True) == (line.status, "the first call makes it" in line.text)
    assert [] == list_files(tmp_path)


async def test_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """SQLite makes no folders."""
    lines = await check(f"sqlite:///{tmp_path}/nowhere/s.db")
    assert_failed(lines["store"], f"there is no folder {tmp_path}/nowhere", "WXPAY_STORE_URL")


async def test_old_schema_is_a_warning_and_left_as_it_is(tmp_path: Path) -> None:
    """The first call upgrades it, and an administrator may want to know before."""
    url = f"sqlite:///{tmp_path}/s.db"
    make_version_1(tmp_path / "s.db")
    before = await read_layout(url)
    line = (await check(url))["store"]
    assert Status.WARNING is line.status
    assert "version 2, the tables are of version 1" in line.text
    assert "the first call does it" in line.advice
    assert "`wxpay-async store schema URL --from-version 1`" in line.advice
    assert before == await read_layout(url)


async def test_newer_schema_is_a_failure(tmp_path: Path) -> None:
    """This release might misread it."""
    url = f"sqlite:///{tmp_path}/s.db"
    await make_store(url)
    await run_sql(url, f"INSERT INTO wxpay_schema (version) VALUES ({VERSION + 1})")
    lines = await check(url)
    assert_failed(lines["store"], f"the store is of version {VERSION + 1}", "upgrade it")


async def test_read_only_database_is_a_failure(tmp_path: Path) -> None:
    """Opened so, or on a disk that is."""
    await make_store(f"sqlite:///{tmp_path}/s.db")
    lines = await check(f"sqlite:///file:{tmp_path}/s.db?mode=ro&uri=true")
    assert_failed(lines["store"], "is read-only (SQLITE_READONLY)", "write the file and its folder")


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """Be a user who may read a folder, but not write it; a test that is run by root becomes one."""
    with open_folder() as folder:
        folder.chmod(0o755)
        yield folder
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)


def leave_rights(folder: Path) -> None:
    """Let nobody write the folder and what is in it any more."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.getuid() == 0:
        os.seteuid(NOBODY)


async def test_file_that_this_user_may_not_write_is_a_failure(locked_folder: Path) -> None:
    """Its name, and what to do."""
    await make_store(f"sqlite:///{locked_folder}/s.db")
    await check(f"sqlite:///{locked_folder}/s.db")  # what it imports may be out of reach later
    leave_rights(locked_folder)
    lines = await check(f"sqlite:///{locked_folder}/s.db")
    assert lines["store"].text.startswith(f"{locked_folder}/s.db is read-only")
    assert_failed(lines["store"], "is read-only (SQLITE_READONLY)", "write the file and its folder")


async def test_folder_that_this_user_may_not_write_is_a_failure(locked_folder: Path) -> None:
    """Where the file would have to be made."""
    await check(f"sqlite:///{locked_folder}/s.db")
    leave_rights(locked_folder)
    lines = await check(f"sqlite:///{locked_folder}/s.db")
    assert_failed(lines["store"], f"the folder {locked_folder} cannot be written", "user write it")


async def test_file_of_something_else_is_a_failure(tmp_path: Path) -> None:
    """It is left alone."""
    path = tmp_path / "s.db"
    path.write_text("notes\n" * 1000)
    lines = await check(f"sqlite:///{path}")
    assert_failed(lines["store"], "is no database", "WXPAY_STORE_URL")
    assert "notes\n" * 1000 == path.read_text()


async def test_folder_in_the_place_of_the_file_is_a_failure(tmp_path: Path) -> None:
    """SQLite cannot open it."""
    lines = await check(f"sqlite:///{tmp_path}")
    assert_failed(lines["store"], "cannot be opened (SQLITE_CANTOPEN)", "WXPAY_STORE_URL")


async def test_file_that_another_process_holds_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be free again later."""
    await make_store(f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setattr(shared, "_PATIENCE", 0.2)
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    lines = await check(f"sqlite:///{tmp_path}/s.db")
    other.close()
    assert_failed(lines["store"], "is locked by another process", "which one", UNREACHABLE)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"oracle://u:{SECRET}@h/db", "no address of a store"),
        (f"u:{SECRET}@h/db", "no address of a store"),
        (f"redis://u:{SECRET}@h:no/0", "no address of a Redis"),
        (f"postgresql://u:{SECRET}@h:no/db", "no address of a store"),
    ],
)
async def test_address_that_is_none_is_a_failure_that_does_not_repeat_it(
    url: str, words: str
) -> None:
    """With what is allowed."""
    assert_failed((await check(url))["WXPAY_STORE_URL"], words, "allowed: ")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "redis"])
async def test_closed_port_is_a_failure_of_the_network(scheme: str) -> None:
    """The address is told without user and password."""
    port = find_free_port()
    lines = await check(f"{scheme}://user:{SECRET}@127.0.0.1:{port}/0")
    assert_failed(lines["store"], f"127.0.0.1:{port}/0 cannot be reached", "runs", UNREACHABLE)
    assert "ECONNREFUSED" in lines["store"].text


async def test_missing_extra_is_a_failure_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's."""
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    lines = await check(f"mysql://u:{SECRET}@127.0.0.1/db")
    assert_failed(lines["WXPAY_STORE_URL"], "mysql needs asyncmy", how_to_install("mysql"))


@pytest.mark.parametrize("service", [POSTGRES, MYSQL], ids=lambda service: service.name)
async def test_database_that_is_not_there_is_a_failure(service: object) -> None:
    """The server says so, by a code of its own."""
    assert service in {POSTGRES, MYSQL}
    url = make_url(require(POSTGRES if service is POSTGRES else MYSQL)).set(database="nowhere_db")
    lines = await check(url.render_as_string(hide_password=False))
    assert_failed(lines["store"], "has no such database", "create it")


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_server_is_ok_with_its_rights(kind: str, tmp_path: Path) -> None:
    """An empty database is a warning before, and stays empty."""
    async with open_place(kind, tmp_path) as place:
        line = (await check(place.url))["store"]
        assert Status.WARNING is line.status
        assert "table wxpay_operations" in line.text
        assert {} == await read_layout(place.url)
        await run_sql(place.url, *write_current(kind))
        lines = await check(place.url)
        assert (Status.OK, Status.OK) == (lines["store"].status, lines["rights"].status)
        assert "ahead" in lines["store"].facts


@pytest.mark.parametrize(
    ("options", "status"),
    [((), Status.WARNING), (("--appendonly", "yes", "--appendfsync", "always"), Status.OK)],
)
async def test_redis_is_told_with_its_durability(options: tuple[str, ...], status: Status) -> None:
    """A Redis as it comes may lose a commit."""
    with private_redis(*options) as url:
        lines = await check(url)
    assert (Status.OK, status) == (lines["store"].status, lines["durability"].status)
    assert ("appendfsync always" in lines["durability"].advice) is (status is Status.WARNING)


@pytest.mark.parametrize("version", [1, 99])
async def test_redis_of_another_version_is_left_as_it_is(version: int) -> None:
    """To raise the version would lock out the processes of the earlier release."""
    with private_redis() as url:
        client = Redis.from_url(url)
        await client.set(VERSION_KEY, version)
        line = (await check(url))["store"]
        assert (Status.WARNING if version == 1 else Status.FAILED) is line.status
        assert f"version {version}" in line.text
        assert str(version).encode() == await client.get(VERSION_KEY)
        await client.aclose()


async def test_redis_that_wants_a_password_is_a_failure_of_the_configuration() -> None:
    """Without one, and with a wrong one."""
    with private_redis() as url:
        client = Redis.from_url(url)
        await client.config_set("requirepass", "right")
        await client.aclose()
        for login in ("", f":{SECRET}@"):
            address = url.replace("redis://", f"redis://{login}")
            line = (await check(address))["store"]
            assert_failed(line, "refuses the login", "WXPAY_STORE_URL")
            settings = Settings({"WXPAY_APP_KEY": "k", "WXPAY_QUOTA_URL": address})
            assert_failed(
                (await check_quota(settings)).finding, "refuses the login", "WXPAY_QUOTA_URL"
            )


# The quota


async def test_quota_of_one_process_is_ok() -> None:
    """With what several processes need."""
    quota = await check_quota(Settings({"WXPAY_APP_KEY": "k"}))
    assert (Status.OK, None) == (quota.finding.status, quota.limiter)
    assert "WXPAY_QUOTA_URL" in quota.finding.advice


async def test_shared_quota_is_asked_and_given_back() -> None:
    """No slot stays taken by it; when all are, it is a warning."""
    with private_redis() as url:
        settings = Settings({"WXPAY_APP_KEY": "k", "WXPAY_QUOTA_URL": url})
        limit = make_quota(Timeouts())
        others = RedisLimiter(url, "k", quota=limit, idle=True)
        slots = [await others.acquire(Lane.PEOPLE, timeout=5.0) for _ in range(limit.limit - 1)]
        for _ in range(2):
            quota = await check_quota(settings)
            assert quota.limiter is not None
            await quota.limiter.aclose()
            assert Status.OK is quota.finding.status
            assert f"{limit.limit} calls of this minute are taken" in quota.finding.text
        slots.append(await others.acquire(Lane.PEOPLE, timeout=5.0))
        quota = await check_quota(settings)
        assert quota.limiter is not None
        await quota.limiter.aclose()
        await others.aclose()
    assert (Status.WARNING, 400) == (quota.finding.status, len(slots))
    assert f"{limit.limit} of {limit.limit} calls" in quota.finding.text


@pytest.mark.parametrize(
    ("url", "name", "words", "code"),
    [
        ("zzz", "WXPAY_QUOTA_URL", "no address of a Redis", CONFIGURATION),
        (f"redis://u:{SECRET}@127.0.0.1:{{port}}/0", "quota", "cannot be reached", UNREACHABLE),
    ],
)
async def test_quota_that_cannot_be_had_is_a_failure(
    url: str, name: str, words: str, code: int
) -> None:
    """Without it no call goes."""
    url = url.replace("{port}", str(find_free_port()))
    quota = await check_quota(Settings({"WXPAY_APP_KEY": "k", "WXPAY_QUOTA_URL": url}))
    assert (name, None) == (quota.finding.name, quota.limiter)
    assert_failed(quota.finding, words, "", code)
    assert quota.finding.advice
    assert SECRET not in str(quota.finding.to_json())

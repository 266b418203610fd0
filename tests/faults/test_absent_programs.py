"""A machine without the servers' programs, or without the users that they run as."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support import sql_servers
from tests.support.servers import open_cluster, open_redis, open_sentinel
from tests.support.sql_servers import open_mariadb, open_pgbouncer, open_postgres

OPENERS = (
    pytest.param(open_postgres, id="postgres"),
    pytest.param(open_mariadb, id="mariadb"),
    pytest.param(lambda: open_pgbouncer("postgresql://h/d"), id="pgbouncer"),
    pytest.param(open_redis, id="redis"),
    pytest.param(open_sentinel, id="sentinel"),
    pytest.param(open_cluster, id="cluster"),
)

Opener = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def root_without_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be root on a machine to which no package has added a user."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sql_servers, "_POSTGRES_USER", "wxpay-nobody")
    monkeypatch.setattr(sql_servers, "_MYSQL_USER", "wxpay-nobody")


@pytest.fixture(params=[False, True], ids=["wanted", "required"])
def outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - of any kind of server
    """Return what becomes of a test: it is skipped, or fails where every service is required."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("WXPAY_TEST_REQUIRE_SERVICES", "1" if request.param else "0")
    return pytest.fail.Exception if request.param else pytest.skip.Exception


@pytest.mark.parametrize("start", OPENERS)
def test_program_that_is_absent_is_named(
    start: Opener,
    outcome: Any,  # noqa: ANN401 - a private class of pytest
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the package that brings it; that there is no user for it is not the reason."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(outcome, match=r"no \S+ to start; install "), start():
        pass


@pytest.mark.parametrize("start", OPENERS[:3])
def test_user_that_is_absent_is_named(
    start: Opener,
    outcome: Any,  # noqa: ANN401 - a private class of pytest
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the programs came without a package."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/true")
    with pytest.raises(outcome, match="no user wxpay-nobody"), start():
        pass

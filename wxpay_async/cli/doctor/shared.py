"""Try what processes may share: the quota, and the store.

Nothing of a merchant is changed. A slot of the quota is taken and given back. A database is opened
without making or upgrading its tables. A Redis whose layout is older is not opened, since that
would lock out the processes of the earlier release; in an empty one the layout's version is noted,
as by the first call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from wxpay_async import InvalidRequestError, Lane, Limiter, NotSentError, Store, WxPayError
from wxpay_async.adapters.redis_url import REDIS_SCHEMES
from wxpay_async.adapters.stores.failures import NewerSchemaError, SetupError, map_failures
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.cli.doctor.findings import CONFIGURATION, UNREACHABLE, Area, Finding, Scribe
from wxpay_async.cli.doctor.settings import split_problem
from wxpay_async.engine.environment import Settings, make_quota
from wxpay_async.protocol.wire import Timeouts

if TYPE_CHECKING:
    from wxpay_async import RedisLimiter, SqlStore

_QUOTA: Final = "WXPAY_QUOTA_URL"
_STORE: Final = "WXPAY_STORE_URL"
_STORES: Final = "sqlite:///wxpay.db for one machine, postgresql://, mysql:// or redis:// for many"
_PATIENCE: Final = 5.0
_NOBODY: Final = "wxpay-async-doctor"
"""An appKey and a requestId that no merchant has."""

_BAD_LOGIN: Final = frozenset(
    {"28000", "28P01", 1044, 1045, "AuthenticationError", "NoPermissionError"}
)
_NO_DATABASE: Final = frozenset({"3D000", 1049})
_READ_ONLY: Final = frozenset({"25006", 1290, 1792, 1836, "SQLITE_READONLY", "ReadOnlyError"})
_NO_FILE: Final = frozenset({"SQLITE_CANTOPEN"})
_NO_STORE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})
_BUSY: Final = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
_DURABLE: Final = {
    "sqlite": "name a file in WXPAY_STORE_URL: this one is lost with the process",
    "postgresql": "switch synchronous_commit and fsync on at the server",
    "mysql": "set innodb_flush_log_at_trx_commit = 1 at the server",
    "redis": "set appendonly yes, appendfsync always and maxmemory-policy noeviction",
}
_write_quota: Final = Scribe(Area.QUOTA)
_write_store: Final = Scribe(Area.STORE)


# The quota


@attrs.frozen
class Quota:
    """What was found of the quota.

    Attributes:
        finding: the line.
        limiter: counts a call; None where it cannot, or where each process counts by itself.
    """

    finding: Finding
    limiter: Limiter | None


async def check_quota(settings: Settings) -> Quota:
    """Take a slot of the shared quota, and give it back."""
    if not settings[_QUOTA]:
        text = "counted in each process by itself: 400 calls in 60 s"
        advice = f"set {_QUOTA}=redis://... where several processes use the appKey"
        return Quota(_write_quota.ok("quota", text, advice), None)
    try:
        limiter = _make_limiter(settings)
    except (WxPayError, ImportError) as error:
        return Quota(_write_problem(_write_quota, _QUOTA, error), None)
    try:
        slot = await limiter.acquire_now(Lane.PEOPLE)
        if slot is not None:
            await slot.unsent()
    except NotSentError as error:
        await limiter.aclose()
        return Quota(_explain(_write_quota, "quota", _show_redis(limiter.url), error), None)
    where, taken = _show_redis(limiter.url), limiter.in_use or 0
    text = f"{where} answers: {taken} of {limiter.quota.limit} calls of this minute are taken"
    if slot is None:
        advice = "wait for a minute, or find out who uses this appKey"
        return Quota(_write_quota.warn("quota", text, advice, facts={"taken": taken}), limiter)
    return Quota(_write_quota.ok("quota", text, facts={"taken": taken}), limiter)


def _make_limiter(settings: Settings) -> RedisLimiter:
    from wxpay_async import RedisLimiter  # noqa: PLC0415 - an extra

    return RedisLimiter(
        settings[_QUOTA], settings["WXPAY_APP_KEY"] or _NOBODY, quota=make_quota(Timeouts())
    )


def _show_redis(url: str) -> str:
    from wxpay_async.adapters.redis_url import redact_redis_url  # noqa: PLC0415 - of an extra

    return redact_redis_url(url).strip("'")


def _write_problem(write: Scribe, name: str, error: WxPayError | ImportError) -> Finding:
    if isinstance(error, WxPayError):
        if isinstance(error, InvalidRequestError):
            error = error.called(name)
        reason, allowed = split_problem(error)
        return write.fail(name, reason, f"allowed: {allowed}" if allowed else "")
    reason, _, advice = str(error).partition("; ")
    return write.fail(name, reason, advice)


# The store


async def check_store(settings: Settings) -> list[Finding]:
    """Open the store as it is; look at its version, its durability and the role's rights."""
    url = settings[_STORE]
    if not url or url.lower().startswith("memory:"):
        text = "in memory: what was sent is forgotten when the process ends"
        return [
            _write_store.warn("store", text, f"set {_STORE} to {_STORES}", facts={"durable": False})
        ]
    try:
        store = store_from_url(url)
    except (WxPayError, ImportError) as error:
        return [_write_problem(_write_store, _STORE, error)]
    if url.partition(":")[0].lower() in REDIS_SCHEMES:
        return await _check_redis(store, url)
    return await _check_sql(url)


async def _check_redis(store: Store, url: str) -> list[Finding]:
    from wxpay_async.adapters.stores.redis_layout import VERSION  # noqa: PLC0415 - an extra

    where = _show_redis(url)
    try:
        version = await _read_redis_version(url)
    except NotSentError as error:
        return [_explain(_write_store, "store", where, error)]
    if version is None or version >= VERSION:
        return await _check_opened(store, where, "redis")
    text = f"{where} has a layout of version {version}, this release needs {VERSION}"
    advice = "the first call raises it; processes of the earlier release are refused from then on"
    return [_write_store.warn("store", text, advice, facts={"version": version})]


async def _read_redis_version(url: str) -> int | None:
    from wxpay_async.adapters import redis_clients  # noqa: PLC0415 - an extra
    from wxpay_async.adapters.stores.redis_layout import VERSION_KEY  # noqa: PLC0415

    link = redis_clients.open_link(url, [], timeout=_PATIENCE, connections=1)
    try:
        with map_failures((*redis_clients.REDIS_FAILURES, ValueError), NotSentError, "open"):
            found = await link.call(("GET", VERSION_KEY))
            return None if found is None else int(found)
    finally:
        await link.aclose()


async def _check_sql(url: str) -> list[Finding]:
    from wxpay_async import SqlStore  # noqa: PLC0415 - an extra
    from wxpay_async.adapters.stores.sql_engines import redact_url  # noqa: PLC0415

    store = SqlStore(url, create=False, timeout=_PATIENCE)
    where = redact_url(store.url).strip("'")
    backend = store.url.get_backend_name()
    if backend == "sqlite":
        missing = _look_for_file(store)
        if missing is not None:
            return [missing]
    return await _check_opened(store, where, backend)


def _look_for_file(store: SqlStore) -> Finding | None:
    """Say what becomes of a file that is not there, without making it; None if it is."""
    name = store.url.database or ""
    if name in {"", ":memory:"} or name.startswith("file:") or Path(name).exists():
        return None
    folder = Path(name).absolute().parent
    if not folder.is_dir():
        return _write_store.fail(
            "store", f"there is no folder {folder} for the file", f"make it, or correct {_STORE}"
        )
    as_effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=as_effective):
        return _write_store.fail(
            "store",
            f"the folder {folder} cannot be written",
            "let the program's user write it: SQLite keeps two more files beside its own",
        )
    return _write_store.warn(
        "store",
        f"{Path(name).absolute()} is not there yet: the first call makes it",
        f"if payments were made before, {_STORE} names the wrong file",
    )


async def _check_opened(store: Store, where: str, backend: str) -> list[Finding]:
    try:
        await store.open()
        await store.load((_NOBODY, _NOBODY))
        # A statement that would delete, and finds nothing: SQLite opens a file for reading alone
        # without a word.
        await store.forget(_NOBODY, 0.0, limit=1)
    except NotSentError as error:
        return [_explain(_write_store, "store", where, error)]
    else:
        return list(_describe_store(store, where, backend))
    finally:
        await store.aclose()


def _describe_store(store: Store, where: str, backend: str) -> Iterator[Finding]:
    version = _find_version(backend)
    ahead = store.ahead or 0.0
    text = f"{where} answers; its layout is of version {version}, which this release needs"
    if abs(ahead) >= 1:
        text += f"; its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    yield _write_store.ok("store", text, facts={"version": version, "ahead": round(ahead, 3)})
    if backend not in {"redis", "sqlite"}:
        yield _write_store.ok("rights", "the role may read, insert, update and delete")
    if store.durable:
        yield _write_store.ok("durability", "a commit survives a crash", facts={"durable": True})
    else:
        text = "a commit may be lost in a crash, and its request sent a second time"
        yield _write_store.warn("durability", text, _DURABLE[backend], facts={"durable": False})


def _find_version(backend: str) -> int:
    if backend == "redis":
        from wxpay_async.adapters.stores.redis_layout import VERSION  # noqa: PLC0415 - an extra

        return VERSION
    from wxpay_async.adapters.stores import sql_schema  # noqa: PLC0415 - an extra

    return sql_schema.VERSION


# Failures of both


def _explain(write: Scribe, name: str, where: str, error: NotSentError) -> Finding:
    cause = error.__cause__
    if isinstance(cause, SetupError):
        text, _, advice = str(cause).partition(". ")
        if isinstance(cause, NewerSchemaError):
            text, _, advice = str(cause).partition(": ")
        elif cause.__cause__ is None:  # nothing was refused: it was only not allowed to do it
            advice = f"the first call does it, if its role may; else an administrator: {advice}"
            return write.warn(name, f"{where}: {text}", advice)
        return write.fail(name, f"{where}: {text}", advice)
    codes = _find_codes(error)
    text, advice, code = _interpret(codes, name)
    listed = ", ".join(str(each) for each in codes)
    return write.fail(name, f"{where} {text} ({listed})", advice, exit_code=code)


def _interpret(codes: list[str | int], name: str) -> tuple[str, str, int]:
    """Return what happened, what to do, and the exit code."""
    found, variable = frozenset(codes), _QUOTA if name == "quota" else _STORE
    code = CONFIGURATION
    if found & _BAD_LOGIN:
        text, advice = "refuses the login", f"check user and password in {variable}"
    elif found & _NO_DATABASE:
        text, advice = "has no such database", f"create it, or correct {variable}"
    elif found & _READ_ONLY:
        text = "is read-only"
        advice = "let the program's user write the file and its folder; a server: its primary"
    elif found & _NO_FILE:
        text = "cannot be opened"
        advice = f"check {variable}, and who may read and write the file and its folder"
    elif found & _NO_STORE:
        text, advice = "is no database, or a damaged one", f"check {variable}"
    elif found & _BUSY:
        text, advice = "is locked by another process", "find out which one writes to it"
        code = UNREACHABLE
    else:
        text, advice = "cannot be reached", f"check {variable}, and that the server runs"
        code = UNREACHABLE
    return text, advice, code


def _find_codes(error: BaseException) -> list[str | int]:
    """Return what drivers and the system say; the class of the error where they say nothing.

    Only codes and names of classes: a driver's text may hold what was in the address.
    """
    chain: list[BaseException] = []
    waiting: list[object] = [error.__cause__]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in chain:
            chain.append(each)
            waiting += [getattr(each, "orig", None), each.__cause__, each.__context__]
    codes = [code for each in chain for code in _find_own_codes(each)]
    return list(dict.fromkeys(codes)) or [type(chain[0] if chain else error).__name__]


def _find_own_codes(error: BaseException) -> Iterator[str | int]:
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        yield sqlstate
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):  # SQLITE_READONLY_DIRECTORY is one of SQLITE_READONLY
        yield "_".join(name.split("_")[:2])
    elif isinstance(error, OSError) and error.errno:
        yield errno.errorcode.get(error.errno, error.errno)
    elif error.args and type(error.args[0]) is int:
        yield error.args[0]
    if type(error).__name__ in _BAD_LOGIN | _READ_ONLY:  # Redis has classes in place of codes
        yield type(error).__name__

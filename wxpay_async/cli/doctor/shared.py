"""Try what processes may share: the quota, and the store.

Nothing of a merchant is changed. A slot of the quota is taken and given back. A database is opened
without making or upgrading its tables. A Redis whose layout is older is not opened, since that
would lock out the processes of the earlier release; in an empty one the layout's version is noted,
as by the first call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from wxpay_async import InvalidRequestError, Lane, Limiter, NotSentError, Store, WxPayError
from wxpay_async.adapters.redis_url import REDIS_SCHEMES
from wxpay_async.adapters.stores.failures import map_failures
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.cli.doctor.failures import VARIABLES, explain_failure
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe
from wxpay_async.cli.doctor.settings import name_allowed, split_problem
from wxpay_async.engine.environment import Settings, make_quota
from wxpay_async.language import Sentence
from wxpay_async.protocol.wire import Timeouts

if TYPE_CHECKING:
    from wxpay_async import RedisLimiter, SqlStore

_QUOTA: Final = VARIABLES["quota"]
_STORE: Final = VARIABLES["store"]
_STORES: Final = Sentence(
    "sqlite:///wxpay.db for one machine, postgresql://, mysql:// or redis:// for many",
    "单机用 sqlite:///wxpay.db，多机用 postgresql://、mysql:// 或 redis://",
)
_PATIENCE: Final = 5.0
_NOBODY: Final = "wxpay-async-doctor"
"""An appKey and a requestId that no merchant has."""

_DURABLE: Final = {
    "sqlite": Sentence(
        "name a file in WXPAY_STORE_URL: this one is lost with the process",
        "在 WXPAY_STORE_URL 中写明文件：当前的存储随进程消失",
    ),
    "postgresql": Sentence(
        "switch synchronous_commit and fsync on at the server",
        "在服务器上打开 synchronous_commit 和 fsync",
    ),
    "mysql": Sentence(
        "set innodb_flush_log_at_trx_commit = 1 at the server",
        "在服务器上设置 innodb_flush_log_at_trx_commit = 1",
    ),
    "redis": Sentence(
        "set appendonly yes, appendfsync always and maxmemory-policy noeviction",
        "设置 appendonly yes、appendfsync always 和 maxmemory-policy noeviction",
    ),
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
        text = Sentence(
            "counted in each process by itself: 400 calls in 60 s",
            "各进程各自计数：60 秒内最多 400 次调用",
        )
        advice = Sentence(
            f"set {_QUOTA}=redis://... where several processes use the appKey",
            f"多个进程使用同一 appKey 时，设置 {_QUOTA}=redis://...",
        )
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
        return Quota(explain_failure(_write_quota, "quota", _show_redis(limiter.url), error), None)
    where, taken = _show_redis(limiter.url), limiter.in_use or 0
    limit = limiter.quota.limit
    text = Sentence(
        f"{where} answers: {taken} of {limit} calls of this minute are taken",
        f"{where} 应答正常：这一分钟的 {limit} 次调用已用 {taken} 次",
    )
    if slot is None:
        advice = Sentence(
            "wait for a minute, or find out who uses this appKey",
            "等一分钟，或查明是谁在使用这个 appKey",
        )
        return Quota(_write_quota.warn("quota", text, advice, facts={"taken": taken}), limiter)
    return Quota(_write_quota.ok("quota", text, facts={"taken": taken}), limiter)


def _make_limiter(settings: Settings) -> RedisLimiter:
    from wxpay_async import RedisLimiter  # noqa: PLC0415 - an extra

    return RedisLimiter(
        settings[_QUOTA], settings["WXPAY_APP_KEY"] or _NOBODY, quota=make_quota(Timeouts())
    )


def _show_redis(url: str) -> str:
    from wxpay_async.adapters.redis_url import redact_redis_url  # noqa: PLC0415 - of an extra

    return redact_redis_url(url)


def _write_problem(write: Scribe, name: str, error: WxPayError | ImportError) -> Finding:
    if isinstance(error, WxPayError):
        if isinstance(error, InvalidRequestError):
            error = error.called(name)
        reason, allowed = split_problem(error)
        return write.fail(name, reason, name_allowed(allowed))
    reason, _, advice = str(error).partition("; ")
    return write.fail(name, reason, advice)


# The store


async def check_store(settings: Settings) -> list[Finding]:
    """Open the store as it is; look at its version, its durability and the role's rights."""
    url = settings[_STORE]
    if not url or url.lower().startswith("memory:"):
        text = Sentence(
            "in memory: what was sent is forgotten when the process ends",
            "内存：进程结束后，发送过的请求不再保留",
        )
        advice = Sentence(f"set {_STORE} to {_STORES.en}", f"设置 {_STORE}：{_STORES.zh}")
        return [_write_store.warn("store", text, advice, facts={"durable": False})]
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
        return [explain_failure(_write_store, "store", where, error)]
    if version is None or version >= VERSION:
        return await _check_opened(store, where, "redis")
    text = Sentence(
        f"{where} has a layout of version {version}, this release needs {VERSION}",
        f"{where} 的布局版本为 {version}，当前版本需要 {VERSION}",
    )
    advice = Sentence(
        "the first call raises it; processes of the earlier release are refused from then on",
        "第一次调用会升级它；此后旧版本的进程会被拒绝",
    )
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
        where = store.url.database or ":memory:"
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
            "store",
            Sentence(
                f"there is no folder {folder} for the file", f"文件所在的目录 {folder} 不存在"
            ),
            Sentence(f"make it, or correct {_STORE}", f"创建该目录，或改正 {_STORE}"),
        )
    as_effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=as_effective):
        return _write_store.fail(
            "store",
            Sentence(f"the folder {folder} cannot be written", f"目录 {folder} 不可写"),
            Sentence(
                "let the program's user write it: SQLite keeps two more files beside its own",
                "允许程序的用户写入该目录：SQLite 还会在旁边保存两个文件",
            ),
        )
    return _write_store.warn(
        "store",
        Sentence(
            f"{Path(name).absolute()} is not there yet: the first call makes it",
            f"{Path(name).absolute()} 尚不存在：第一次调用时创建",
        ),
        Sentence(
            f"if payments were made before, {_STORE} names the wrong file",
            f"如果之前发起过支付，说明 {_STORE} 指向了错误的文件",
        ),
    )


async def _check_opened(store: Store, where: str, backend: str) -> list[Finding]:
    try:
        await store.open()
        await store.load((_NOBODY, _NOBODY))
        # A statement that would delete, and finds nothing: SQLite opens a file for reading alone
        # without a word.
        await store.forget(_NOBODY, 0.0, limit=1)
    except NotSentError as error:
        return [explain_failure(_write_store, "store", where, error)]
    else:
        return list(_describe_store(store, where, backend))
    finally:
        await store.aclose()


def _describe_store(store: Store, where: str, backend: str) -> Iterator[Finding]:
    version = _find_version(backend)
    ahead = store.ahead or 0.0
    text = Sentence(
        f"{where} answers; its layout is of version {version}, which this release needs",
        f"{where} 应答正常；布局版本为 {version}，与当前版本一致",
    )
    if abs(ahead) >= 1:
        seconds, way = f"{abs(ahead):.0f}", ("ahead", "快") if ahead > 0 else ("behind", "慢")
        text = Sentence(
            f"{text.en}; its clock is {seconds} s {way[0]}",
            f"{text.zh}；其时钟{way[1]} {seconds} 秒",
        )
    yield _write_store.ok("store", text, facts={"version": version, "ahead": round(ahead, 3)})
    if backend not in {"redis", "sqlite"}:
        rights = Sentence("the role may read, insert, update and delete", "角色有增删改查的权限")
        yield _write_store.ok("rights", rights)
    if store.durable:
        text = Sentence("a commit survives a crash", "提交后的数据在崩溃后仍在")
        yield _write_store.ok("durability", text, facts={"durable": True})
    else:
        text = Sentence(
            "a commit may be lost in a crash, and its request sent a second time",
            "崩溃时可能丢失提交，其请求可能被重复发送",
        )
        yield _write_store.warn("durability", text, _DURABLE[backend], facts={"durable": False})


def _find_version(backend: str) -> int:
    if backend == "redis":
        from wxpay_async.adapters.stores.redis_layout import VERSION  # noqa: PLC0415 - an extra

        return VERSION
    from wxpay_async.adapters.stores import sql_schema  # noqa: PLC0415 - an extra

    return sql_schema.VERSION

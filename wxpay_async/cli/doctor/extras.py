"""Look at what is installed, and at what that leads to."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import ssl
from collections.abc import Iterator
from typing import Final

import attrs

from wxpay_async import RsaSigner, __version__
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe
from wxpay_async.cli.doctor.settings import Setup
from wxpay_async.extras import how_to_install
from wxpay_async.language import Sentence

_write: Final = Scribe(Area.EXTRAS)


@attrs.frozen
class _Extra:
    """An extra of the package.

    Attributes:
        name: as pip takes it.
        leads_to: what it is for.
        distribution: what it brings; named like the extra where it is not given.
        module: what that is imported by; named like the distribution where it is not given.
    """

    name: str
    leads_to: Sentence
    distribution: str = attrs.Factory(lambda self: self.name, takes_self=True)
    module: str = attrs.Factory(lambda self: self.distribution, takes_self=True)


_POSTGRES: Final = Sentence("stores in PostgreSQL", "PostgreSQL 存储")
_HOOK: Final = Sentence("OpenTelemetryHook", "OpenTelemetryHook")
_FASTER: Final = Sentence("RSA signatures in a third of the time", "RSA 签名用时降到三分之一")

_EXTRAS: Final = (
    _Extra("speedups", _FASTER, "cryptography"),
    _Extra("sql", Sentence("stores in SQLite", "SQLite 存储"), "sqlalchemy"),
    _Extra("postgres", _POSTGRES, "asyncpg"),
    _Extra("psycopg", _POSTGRES),
    _Extra("mysql", Sentence("stores in MariaDB and MySQL", "MariaDB 和 MySQL 存储"), "asyncmy"),
    _Extra("redis", Sentence("stores and quotas in Redis", "Redis 存储和配额")),
    _Extra("httpx", Sentence("HttpxTransport", "HttpxTransport")),
    _Extra("reqwest", Sentence("ReqwestTransport", "ReqwestTransport"), "pyreqwest"),
    _Extra("otel", _HOOK, "opentelemetry-api", "opentelemetry"),
    _Extra("fastapi", Sentence("routes for FastAPI", "FastAPI 路由")),
    _Extra("report", Sentence("the report of a batch", "批处理报告"), "jinja2"),
    _Extra("sandbox", Sentence("the sandbox's console", "沙箱控制台"), "jinja2"),
    _Extra("testing", Sentence("fixtures for a shop's tests", "商户测试用的 fixture"), "pytest"),
    _Extra("taskiq", Sentence("batches on several machines", "多机批处理")),
)


def check_extras(setup: Setup) -> Iterator[Finding]:
    """Say what is installed, and what a missing extra costs here."""
    python = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
    yield _write.ok("wxpay-async", f"{__version__}, {python}", facts={"version": __version__})
    found = {extra: _find_version(extra) for extra in _EXTRAS}
    installed = {extra: version for extra, version in found.items() if version}
    absent = [extra for extra in _EXTRAS if extra not in installed]
    if installed:
        texts = [f"{each.name} ({each.distribution} {of})" for each, of in installed.items()]
        versions = {each.name: version for each, version in installed.items()}
        yield _write.ok("installed", ", ".join(texts), facts={"extras": versions})
    if absent:
        names = [each.name for each in absent]
        text = Sentence(
            ", ".join(f"{each.name} ({each.leads_to.en})" for each in absent),
            "、".join(f"{each.name}（{each.leads_to.zh}）" for each in absent),
        )
        command = how_to_install("NAME")
        advice = Sentence(f"for what is needed: {command}", f"按需安装：{command}")
        if "speedups" in names and setup.parts and isinstance(setup.parts.signer, RsaSigner):
            command = how_to_install("speedups")
            advice = Sentence(f"where many pay at once: {command}", f"并发支付较多时：{command}")
            yield _write.warn("not installed", text, advice, facts={"extras": names})
        else:
            yield _write.ok("not installed", text, advice, facts={"extras": names})


def _find_version(extra: _Extra) -> str | None:
    """Return the version of what it brings, None if that is not installed."""
    try:
        if importlib.util.find_spec(extra.module) is None:
            return None
        return importlib.metadata.version(extra.distribution)
    except (ImportError, ValueError):  # without metadata; or taken away by a test
        return None

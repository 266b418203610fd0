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

_write: Final = Scribe(Area.EXTRAS)


@attrs.frozen
class _Extra:
    """An extra of the package.

    Attributes:
        name: as pip takes it.
        distribution: what it brings.
        module: what that is imported by.
        leads_to: what it is for.
    """

    name: str
    distribution: str
    module: str
    leads_to: str


_EXTRAS: Final = (
    _Extra("speedups", "cryptography", "cryptography", "RSA signatures in a third of the time"),
    _Extra("sql", "sqlalchemy", "sqlalchemy", "stores in SQLite"),
    _Extra("postgres", "asyncpg", "asyncpg", "stores in PostgreSQL"),
    _Extra("psycopg", "psycopg", "psycopg", "stores in PostgreSQL"),
    _Extra("mysql", "asyncmy", "asyncmy", "stores in MariaDB and MySQL"),
    _Extra("redis", "redis", "redis", "stores and quotas in Redis"),
    _Extra("httpx", "httpx", "httpx", "HttpxTransport"),
    _Extra("reqwest", "pyreqwest", "pyreqwest", "ReqwestTransport"),
    _Extra("otel", "opentelemetry-api", "opentelemetry", "OpenTelemetryHook"),
    _Extra("fastapi", "fastapi", "fastapi", "routes for FastAPI"),
    _Extra("report", "jinja2", "jinja2", "the report of a batch"),
    _Extra("sandbox", "jinja2", "jinja2", "the sandbox's console"),
    _Extra("testing", "pytest", "pytest", "fixtures for a shop's tests"),
    _Extra("taskiq", "taskiq", "taskiq", "batches on several machines"),
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
        texts = [f"{each.name} ({each.leads_to})" for each in absent]
        names = [each.name for each in absent]
        text, advice = ", ".join(texts), "pip install 'wxpay-async[NAME]' for what is needed"
        if "speedups" in names and setup.parts and isinstance(setup.parts.signer, RsaSigner):
            advice = "pip install 'wxpay-async[speedups]' where many pay at once"
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

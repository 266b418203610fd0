"""Read the settings: which are there, where each comes from, and which cannot be used.

A sandbox's settings that would be used against the real platform are told as a failure, before
anything is sent. Values are shown only where they are no secret, and where they look like none.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from wxpay_async import InvalidRequestError, MemoryStore, Unlimited, WxPayError
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe
from wxpay_async.engine.environment import SCHEMES, VARIABLES, Parts, Problem, Settings, read_parts
from wxpay_async.engine.mix_up import ADVICE, PLATFORM_KEY, find_mix_up
from wxpay_async.protocol.wire import PRODUCTION, check_base_url, is_loopback

_OTHERS: Final = ("WXPAY_BROKER_URL", "WXPAY_LANG", "WXPAY_PAY_PUBLIC_KEY", PLATFORM_KEY)
"""Variables that other parts read: the worker, this program, the examples."""

_SECRET: Final = (
    *("WXPAY_PRIVATE_KEY_PASSPHRASE", "WXPAY_SEAL_KEY", "WXPAY_FORMER_SECRETS"),
    *("WXPAY_STORE_URL", "WXPAY_QUOTA_URL"),  # they have lines of their own, without passwords
)
_DEFAULTS: Final = {
    "WXPAY_BASE_URL": f"production, {PRODUCTION}",
    "WXPAY_PROXY": "no proxy",
    "WXPAY_STORE_URL": "in memory",
    "WXPAY_QUOTA_URL": "counted in each process",
}
_IGNORED_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")

_LIKE_A_SECRET: Final = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_LONGEST_KEY: Final = 64
_LONGEST_PATH: Final = 1024
_LIKE_A_PATH: Final = re.compile(r"(?:[~.]|\.\.|[A-Za-z]:)?[/\\].*|[^+=]*\.[a-z]{2,4}")


@attrs.frozen(kw_only=True)
class Setup:
    """The settings as they were read. No `repr` shows their values.

    Attributes:
        settings: the variables, those of the program's options included.
        parts: what a gateway is made of; None where that cannot be known.
        base_url: the platform's address; None where it cannot be used.
        safe: whether these settings may meet that address. A sandbox's may not meet a platform.
        problems: what is wrong, for each part that has its own lines.
        findings: the lines about the settings.
    """

    settings: Settings = attrs.field(repr=False)
    parts: Parts | None = attrs.field(repr=False)
    base_url: str | None
    safe: bool
    problems: tuple[Problem, ...] = attrs.field(repr=False)
    findings: tuple[Finding, ...]


_write: Final = Scribe(Area.SETTINGS)


def read_setup(environ: Mapping[str, str], given: Mapping[str, str]) -> Setup:
    """Read the settings, without any I/O but that of the key files.

    Args:
        environ: the variables, with the program's options in them.
        given: the variables of the process, by which the origin of each is told.
    """
    settings = Settings(environ)
    parts = _read_parts(settings)
    base_url = _read_base_url(settings)
    mixed_up = list(_find_mix_up(environ, base_url))
    lines = [*_describe_settings(settings, environ, given, base_url), *mixed_up]
    lines += _find_unknown(environ)
    lines += _find_ignored_proxies(settings, environ, base_url)
    return Setup(
        settings=settings,
        parts=parts,
        base_url=base_url,
        safe=not any(line.exit_code for line in mixed_up),
        problems=tuple(settings.problems),
        findings=tuple(lines),
    )


def split_problem(problem: WxPayError) -> tuple[str, str]:
    """Return what is wrong without the name of the variable, and what it may hold."""
    text, allowed = str(problem), ""
    if isinstance(problem, InvalidRequestError) and problem.allowed:
        allowed = problem.allowed
        text = text.removesuffix(f"; allowed: {allowed}")
    name, found, rest = text.partition(": ")
    return (rest if found and name.startswith("WXPAY_") else text), allowed


def find_problem(problems: tuple[Problem, ...], *names: str) -> Problem | None:
    """Return the first problem that is about one of the variables."""
    return next((each for each in problems if not _list_names(each).isdisjoint(names)), None)


def _list_names(problem: Problem) -> frozenset[str]:
    return frozenset(str(problem).partition(":")[0].split(", "))


def _read_parts(settings: Settings) -> Parts | None:
    # The store and the quota are read where they are tried out. An unlimited limiter sends nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the modes of files, which have their own lines
        try:
            return read_parts(settings, {"store": MemoryStore(), "limiter": Unlimited()})
        except (WxPayError, ImportError) as error:
            if not settings.problems:
                settings.problems.append(InvalidRequestError(str(error)))
            return None


def _read_base_url(settings: Settings) -> str | None:
    """Return the address by itself, so that it is known beside other problems."""
    insecure = settings["WXPAY_ALLOW_INSECURE"].lower() in {"1", "true"}
    try:
        return check_base_url(settings["WXPAY_BASE_URL"] or PRODUCTION, allow_insecure=insecure)
    except InvalidRequestError:
        return None


# The lines


def _describe_settings(
    settings: Settings, environ: Mapping[str, str], given: Mapping[str, str], base_url: str | None
) -> Iterator[Finding]:
    told = set[str]()
    for problem in settings.problems:
        if isinstance(problem, InvalidRequestError):
            reason, allowed = split_problem(problem)
            told |= _list_names(problem)
            yield _write.fail(problem.field or "settings", reason, _advise(problem, allowed))
    for name in VARIABLES:
        if name in told:
            continue
        if settings[name]:
            origin = "option" if environ.get(name) != given.get(name) else "environment"
            yield _describe(name, settings, origin, base_url)
        elif name in _DEFAULTS:
            text = f"not set (default: {_DEFAULTS[name]})"
            yield _write.ok(name, text, facts={"origin": "default"})


def _advise(problem: InvalidRequestError, allowed: str) -> str:
    if problem.field == "WXPAY_APP_KEY":
        return "set it to the developer id that the platform's console shows"
    return f"allowed: {allowed}" if allowed else ""


def _describe(name: str, settings: Settings, origin: str, base_url: str | None) -> Finding:
    value = settings[name]
    match name:
        case "WXPAY_APP_KEY":
            return _describe_app_key(value, settings, origin)
        case "WXPAY_BASE_URL":
            shown = base_url or "set"
        case "WXPAY_PROXY":
            shown = _hide_login(value)
        case "WXPAY_KEY_FILE_MODE" | "WXPAY_ALLOW_INSECURE":
            shown = value
        case "WXPAY_APP_SECRET_FILE" | "WXPAY_PRIVATE_KEY_FILE":
            shown = describe_path(value)
            return _write.ok(name, f"{shown} ({origin}, a file)", facts={"origin": origin})
        case _:
            shown = "set"
    return _write.ok(name, f"{shown} ({origin})", facts={"origin": origin, "value": shown})


def _describe_app_key(value: str, settings: Settings, origin: str) -> Finding:
    name = "WXPAY_APP_KEY"
    if len(value) > _LONGEST_KEY or value in {settings[each] for each in (*SCHEMES, *_SECRET)}:
        return _write.fail(
            name, "holds a secret or a key (not shown)", "set it to the developer id, the appKey"
        )
    if _LIKE_A_SECRET.fullmatch(value):
        return _write.warn(
            name,
            f"set ({origin}), and looks like an appSecret (not shown)",
            "check that appKey and appSecret are not swapped",
            facts={"origin": origin},
        )
    return _write.ok(name, f"{value} ({origin})", facts={"origin": origin, "value": value})


def describe_path(value: str) -> str:
    """Return a path, unless it may be a secret that was taken for one."""
    is_short = len(value) <= _LONGEST_PATH and value.isprintable()
    if is_short and (_LIKE_A_PATH.fullmatch(value) or Path(value).is_file()):
        return value
    return "set, and no path of a file"


def _hide_login(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "set"
    login = ", with a login" if parts.username or parts.password else ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{login}"


# A sandbox's settings and the real platform


def _find_mix_up(environ: Mapping[str, str], base_url: str | None) -> Iterator[Finding]:
    """Tell of a sandbox's settings that would be used against the platform."""
    mix_up = None if base_url is None else find_mix_up(environ, base_url)
    if mix_up is None:
        return
    if mix_up.has_app_key or mix_up.is_forgotten:
        yield _write.fail("sandbox", str(mix_up), ADVICE)
    else:
        listed = " and ".join(mix_up.traces)
        yield _write.warn(
            "sandbox",
            f"this talks to {mix_up.place}, and a sandbox's {listed} is still set",
            f"unset {listed}",
        )


# What is set and not read


def _find_unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = (*VARIABLES, *_OTHERS)
    for name in sorted(environ):
        if name.startswith("WXPAY_") and not name.startswith("WXPAY_TEST_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"perhaps {close[0]} is meant" if close else "unset it"
            yield _write.warn(name, "is set, and nothing reads it", advice)


def _find_ignored_proxies(
    settings: Settings, environ: Mapping[str, str], base_url: str | None
) -> Iterator[Finding]:
    if settings["WXPAY_PROXY"] or base_url is None or is_loopback(base_url):
        return
    found = [n for name in _IGNORED_PROXIES for n in (name, name.lower()) if environ.get(n)]
    if found:
        yield _write.warn(
            found[0],
            "is set, and requests do not go through it",
            "set WXPAY_PROXY if the platform's allow-list has the proxy's address",
        )

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
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe, Text
from wxpay_async.engine.environment import SCHEMES, VARIABLES, Parts, Problem, Settings, read_parts
from wxpay_async.engine.mix_up import ADVICE, PLATFORM_KEY, MixUp, find_mix_up
from wxpay_async.language import Sentence
from wxpay_async.protocol.wire import PRODUCTION, check_base_url, is_loopback

_OTHERS: Final = ("WXPAY_BROKER_URL", "WXPAY_LANG", "WXPAY_PAY_PUBLIC_KEY", PLATFORM_KEY)
"""Variables that other parts read: the worker, this program, the examples."""

_SECRET: Final = (
    *("WXPAY_PRIVATE_KEY_PASSPHRASE", "WXPAY_SEAL_KEY", "WXPAY_FORMER_SECRETS"),
    *("WXPAY_STORE_URL", "WXPAY_QUOTA_URL"),  # they have lines of their own, without passwords
)
_DEFAULTS: Final = {
    "WXPAY_BASE_URL": Sentence(f"production, {PRODUCTION}", f"生产环境，{PRODUCTION}"),
    "WXPAY_PROXY": Sentence("no proxy", "不使用代理"),
    "WXPAY_STORE_URL": Sentence("in memory", "内存"),
    "WXPAY_QUOTA_URL": Sentence("counted in each process", "各进程各自计数"),
}
_ORIGINS: Final = {"option": "命令行选项", "environment": "环境变量"}
_IGNORED_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")

_ADVICE_ZH: Final = (
    "将 WXPAY_BASE_URL 设为 `wxpay-async sandbox` 打印的地址，或改用平台后台给出的设置"
)

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
            default = _DEFAULTS[name]
            text = Sentence(f"not set (default: {default.en})", f"未设置（默认：{default.zh}）")
            yield _write.ok(name, text, facts={"origin": "default"})


def _advise(problem: InvalidRequestError, allowed: str) -> Text:
    if problem.field == "WXPAY_APP_KEY":
        return Sentence(
            "set it to the developer id that the platform's console shows",
            "设为平台后台显示的开发者 id（appKey）",
        )
    return name_allowed(allowed)


def name_allowed(allowed: str) -> Text:
    """Return what a setting may hold as an advice; nothing where that is not known."""
    return Sentence(f"allowed: {allowed}", f"可用值：{allowed}") if allowed else ""


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
            text = Sentence(f"{shown} ({origin}, a file)", f"{shown}（{_ORIGINS[origin]}，文件）")
            return _write.ok(name, text, facts={"origin": origin})
        case _:
            shown = "set"
    facts = {"origin": origin, "value": shown}
    return _write.ok(name, _show_value(shown, origin), facts=facts)


def _show_value(value: str, origin: str) -> Sentence:
    zh = "已设置" if value == "set" else value
    return Sentence(f"{value} ({origin})", f"{zh}（{_ORIGINS[origin]}）")


def _describe_app_key(value: str, settings: Settings, origin: str) -> Finding:
    name = "WXPAY_APP_KEY"
    if len(value) > _LONGEST_KEY or value in {settings[each] for each in (*SCHEMES, *_SECRET)}:
        return _write.fail(
            name,
            Sentence("holds a secret or a key (not shown)", "里面是密钥（不显示）"),
            Sentence("set it to the developer id, the appKey", "设为开发者 id，即 appKey"),
        )
    if _LIKE_A_SECRET.fullmatch(value):
        return _write.warn(
            name,
            Sentence(
                f"set ({origin}), and looks like an appSecret (not shown)",
                f"已设置（{_ORIGINS[origin]}），看起来像 appSecret（不显示）",
            ),
            Sentence(
                "check that appKey and appSecret are not swapped",
                "检查 appKey 和 appSecret 是否写反",
            ),
            facts={"origin": origin},
        )
    facts = {"origin": origin, "value": value}
    return _write.ok(name, _show_value(value, origin), facts=facts)


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
        yield _write.fail("sandbox", _describe_mix_up(mix_up), Sentence(ADVICE, _ADVICE_ZH))
    else:
        listed, listed_zh = " and ".join(mix_up.traces), "、".join(mix_up.traces)
        yield _write.warn(
            "sandbox",
            Sentence(
                f"this talks to {mix_up.place}, and a sandbox's {listed} is still set",
                f"请求将发往 {_name_place(mix_up)}，但仍设置着沙箱的 {listed_zh}",
            ),
            Sentence(f"unset {listed}", f"取消设置 {listed_zh}"),
        )


def _describe_mix_up(mix_up: MixUp) -> Sentence:
    why = "未设置 WXPAY_BASE_URL，" if mix_up.is_forgotten else ""
    listed = "、".join(mix_up.traces)
    return Sentence(
        str(mix_up), f"{why}请求将发往 {_name_place(mix_up)}，而 {listed} 是沙箱给出的值"
    )


def _name_place(mix_up: MixUp) -> str:
    names = {"production": "生产环境", "the platform's test host": "平台测试环境"}
    return names.get(mix_up.place, mix_up.place)


# What is set and not read


def _find_unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = (*VARIABLES, *_OTHERS)
    for name in sorted(environ):
        if name.startswith("WXPAY_") and not name.startswith("WXPAY_TEST_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = (
                Sentence(f"perhaps {close[0]} is meant", f"也许应为 {close[0]}")
                if close
                else Sentence("unset it", "取消设置")
            )
            text = Sentence("is set, and nothing reads it", "已设置，但没有程序读取它")
            yield _write.warn(name, text, advice)


def _find_ignored_proxies(
    settings: Settings, environ: Mapping[str, str], base_url: str | None
) -> Iterator[Finding]:
    if settings["WXPAY_PROXY"] or base_url is None or is_loopback(base_url):
        return
    found = [n for name in _IGNORED_PROXIES for n in (name, name.lower()) if environ.get(n)]
    if found:
        yield _write.warn(
            found[0],
            Sentence("is set, and requests do not go through it", "已设置，但支付请求不经过它"),
            Sentence(
                "set WXPAY_PROXY if the platform's allow-list has the proxy's address",
                "如果平台白名单中是代理的地址，请设置 WXPAY_PROXY",
            ),
        )

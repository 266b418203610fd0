"""What a merchant is told to do: after every errorCode and every error, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_errors import list_classes
from wxpay_async import errors
from wxpay_async.errors import (
    AccessDeniedError,
    ConfigurationRefusedError,
    InDoubtError,
    NotSentError,
    QuotaExhaustedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.hints import CLASSES, CODES, UNSENT, find_hint
from wxpay_async.language import Sentence
from wxpay_async.protocol import error_codes

PROTOCOL = Path(__file__).parents[1] / "docs" / "protocol.md"
DOCUMENTED = frozenset(
    re.findall(r"^\| `?((?:CO_MSG|GM_API_BUS)_\d+)`? \|", PROTOCOL.read_text("utf-8"), re.MULTILINE)
)

HINTS: dict[str, Sentence] = {
    **{code: hint for code, (_, hint) in CODES.items()},
    **CLASSES,
    **{named.pattern: hint for named, hint in UNSENT},
}
ENDS = {"en": ".", "zh": "。"}


# Every one has a hint


def test_every_documented_code_has_a_hint() -> None:
    """Those of the page, and those that the SDK knows."""
    assert len(DOCUMENTED) >= 16
    assert set() == (DOCUMENTED | set(error_codes.CODES)) - set(CODES)


def find_unhinted(kinds: dict[str, type[WxPayError]]) -> list[str]:
    """Return the classes without a hint of their own."""
    return sorted(kinds.keys() - CLASSES.keys())


def test_every_error_class_has_a_hint_of_its_own() -> None:
    """A class that is added gets one, too."""
    assert [] == find_unhinted({"WxPayError": WxPayError, **list_classes()})
    assert set(CLASSES) == {"WxPayError", *list_classes()}


def test_error_class_without_a_hint_is_found() -> None:
    """The check above goes red."""

    class NewError(InDoubtError):
        pass

    assert ["NewError"] == find_unhinted({**list_classes(), "NewError": NewError})


@pytest.mark.parametrize("code", sorted(CODES))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_error_of_a_code_has_the_hint_of_the_code(
    monkeypatch: pytest.MonkeyPatch, code: str, language: str
) -> None:
    """As the reader of a reply makes it."""
    monkeypatch.setenv("WXPAY_LANG", language)
    kind, meaning = error_codes.CODES.get(code, (RefusedError, "not of this chapter"))
    hint = CODES[code][1]

    assert (hint.zh if language == "zh" else hint.en) == kind(meaning, code=code).hint


@pytest.mark.parametrize("kind", [WxPayError, *list_classes().values()])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_error_without_a_code_has_the_hint_of_its_class(
    monkeypatch: pytest.MonkeyPatch, kind: type[WxPayError], language: str
) -> None:
    """Whatever it says."""
    monkeypatch.setenv("WXPAY_LANG", language)
    hint = CLASSES[kind.__name__]

    assert (hint.zh if language == "zh" else hint.en) == kind("something").hint


@pytest.mark.parametrize("code", sorted(error_codes.CODES))
def test_hint_of_a_code_is_for_the_class_that_is_raised(code: str) -> None:
    """The two tables cannot drift apart."""
    assert error_codes.CODES[code][0].__name__ == CODES[code][0]


# How they are written


@pytest.mark.parametrize("name", HINTS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_hint_is_one_sentence_of_its_language(name: str, language: str) -> None:
    """One line, with one full stop, which is its last character."""
    hint = HINTS[name].zh if language == "zh" else HINTS[name].en
    prose = re.sub(r"`[^`]*`", "", hint)

    assert hint.isprintable()
    assert hint.endswith(ENDS[language])
    assert 1 == len(re.findall(r"。" if language == "zh" else r"[.!?](?= |$)", prose))
    assert (language == "zh") == any("\u4e00" <= letter <= "\u9fff" for letter in hint)


@pytest.mark.parametrize("name", HINTS)
def test_technical_names_are_the_same_in_both_languages(name: str) -> None:
    """Settings, fields, commands and classes are copied from a hint as they are."""
    names = re.compile(r"`[^`]+`|WXPAY_[A-Z_]+|requestId|appKey|appSecret|\b[A-Z]{3,}\b")
    hint = HINTS[name]

    assert set(names.findall(hint.en)) <= set(names.findall(hint.zh)) | {"POST"}


@pytest.mark.parametrize(
    "name",
    [name for name, kind in list_classes().items() if issubclass(kind, InDoubtError)],
)
def test_hint_of_a_doubt_never_asks_for_another_purchase_at_once(name: str) -> None:
    """What may have been executed is queried, sent again as it is, or waited for."""
    safe = re.compile(r"[Nn]ever use|Query the order|same request|do not charge|retry_at")

    assert safe.search(CLASSES[name].en)


# Which one it is


@pytest.mark.parametrize("code", ["CO_MSG_000001", "CO_MSG_000006", "GM_API_BUS_000007"])
def test_refusal_that_did_not_end_a_doubt_has_the_hint_of_the_doubt(code: str) -> None:
    """Another requestId, as the refusal alone would allow it, might pay twice."""
    error = InDoubtError("an earlier attempt may have been executed", code=code)

    assert (
        find_hint(["InDoubtError", "WxPayError"], code=code, reason="") == CLASSES["InDoubtError"]
    )
    assert "ever use a new requestId" in error.hint or "绝不更换" in error.hint


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        ("the store cannot reserve an operation (OperationalError)", "WXPAY_STORE_URL"),
        ("the Redis of the quota fails (TimeoutError)", "WXPAY_QUOTA_URL"),
        ("aiohttp: ClientConnectorCertificateError (self-signed certificate)", "ca_file="),
        ("httpx: ConnectError (self-signed certificate)", "ca_file="),
        ("reqwest: ConnectError (invalid peer certificate: UnknownIssuer)", "ca_file="),
        ("aiohttp: ClientConnectorSSLError (WRONG_VERSION_NUMBER)", "TLS"),
        ("aiohttp: ClientConnectorDNSError", "DNS"),
        ("httpx: ConnectError (EAI_NONAME)", "DNS"),
        ("reqwest: ConnectError (failed to lookup address information: Name or)", "DNS"),
        ("aiohttp: ClientConnectorError (ECONNREFUSED)", "host and port"),
        ("aiohttp: ClientHttpProxyError", "WXPAY_PROXY, and what the proxy"),
        ("aiohttp: ConnectionTimeoutError", "firewall"),
        ("reqwest: ConnectTimeout", "firewall"),
        ("the signer raised OSError", "nothing was sent"),
    ],
)
def test_network_error_has_the_hint_of_its_cause(
    monkeypatch: pytest.MonkeyPatch, reason: str, named: str
) -> None:
    """Where nothing was sent, what has to be mended is known best by the reason."""
    monkeypatch.setenv("WXPAY_LANG", "en")

    assert named in NotSentError(reason).hint


def test_doubt_of_a_network_error_has_the_hint_of_the_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The money comes first."""
    monkeypatch.setenv("WXPAY_LANG", "en")

    assert CLASSES["InDoubtError"].en == InDoubtError("aiohttp: ECONNREFUSED").hint


def test_class_of_a_merchant_s_own_has_the_hint_of_its_parent() -> None:
    """One of a transport that a merchant wrote, for example."""

    class PluginError(QuotaExhaustedError):
        pass

    assert QuotaExhaustedError("full").hint == PluginError("full").hint


def test_undocumented_code_has_the_hint_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such codes exist."""
    monkeypatch.setenv("WXPAY_LANG", "en")

    assert "support" in RefusedError("refused", code="GM_API_BUS_0000099").hint
    assert "proxy or firewall" in ConfigurationRefusedError("HTTP 403").hint
    assert "allow-list" in AccessDeniedError("refused").hint


@pytest.mark.parametrize(
    ("environ", "language"),
    [({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"WXPAY_LANG": "zh"}, "zh")],
)
def test_language_of_a_hint_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], language: str
) -> None:
    """`WXPAY_LANG`, else the locale, else English."""
    for name in ("WXPAY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    hint = SignatureRefusedError("refused").hint
    assert (language == "zh") == ("比对" in hint)


def test_text_of_an_error_has_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and alerts that were built on it stay as they are."""
    monkeypatch.setenv("WXPAY_LANG", "en")
    error = errors.SignatureRefusedError("refused", code="CO_MSG_000006")

    assert "refused [CO_MSG_000006]" == str(error)

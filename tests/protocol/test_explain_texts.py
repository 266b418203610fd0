"""Canonical strings with several mistakes at once, and how a difference is shown."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest

from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.explain_texts import (
    Difference,
    find_causes,
    find_difference,
    mask_text,
    shorten_masks,
    split_pairs,
)

CONTENT = {"requestId": "r-1", "subject": "茶/a&b=c", "list": [{"n": "0", "m": "1"}]}
TEXT = json.dumps(CONTENT, ensure_ascii=False, separators=(",", ":"))
PARAMS = {
    "appKey": "gm1",
    "bizContent": TEXT,
    "count": "0",
    "memo": "",
    "nonce": "n1",
    "signType": "RSA",
    "timestamp": "1490063145767",
}
CANONICAL = "&".join(f"{name}={value}" for name, value in PARAMS.items() if value)
SPACED = json.dumps(CONTENT, ensure_ascii=False)


def write(**changes: str | None) -> str:
    """Write the string with other values; None leaves a parameter out."""
    changed = {**{n: v for n, v in PARAMS.items() if v}, **changes}
    return "&".join(f"{name}={value}" for name, value in changed.items() if value is not None)


@pytest.mark.parametrize(
    ("theirs", "causes"),
    [
        (write(nonce="n2"), [Cause.OTHER_VALUE]),
        (write(nonce="n2", timestamp="1490063145"), [Cause.OTHER_VALUE, Cause.TIMESTAMP_SECONDS]),
        (write(nonce=None), [Cause.OTHER_PARAMETERS]),
        (write(zone="cn"), [Cause.OTHER_PARAMETERS]),
        (write(count=None, nonce="n2"), [Cause.ZERO_DROPPED, Cause.OTHER_VALUE]),
        (write(signType=None, nonce="n2"), [Cause.OTHER_VALUE, Cause.SIGN_TYPE]),
        (write(zone="null"), [Cause.EMPTY_KEPT]),
        (write(zone=""), [Cause.EMPTY_KEPT]),
        (write(sign="A"), [Cause.SIGN_INCLUDED, Cause.NOT_SORTED]),
        (write(appSecret="other"), [Cause.WRONG_SECRET]),
        (write(key="other"), [Cause.SECRET_PLACED]),
        (write(appSecret="\0\0"), []),
        (write(key="\0\0"), [Cause.SECRET_PLACED]),
        (write() + "\0\0", [Cause.SECRET_PLACED]),
        (write(bizContent=quote(SPACED)), [Cause.URL_ENCODED, Cause.JSON_SPACES]),
        (write(bizContent=quote_plus(SPACED)), [Cause.URL_ENCODED, Cause.JSON_SPACES]),
        (write(bizContent=quote(TEXT)), [Cause.URL_ENCODED]),
        (write(bizContent="%7B%7D"), [Cause.OTHER_VALUE]),
        (quote(write(nonce="n2"), safe=""), [Cause.URL_ENCODED, Cause.OTHER_VALUE]),
        (
            write(bizContent=json.dumps(CONTENT, sort_keys=True)),
            [Cause.JSON_SPACES, Cause.JSON_KEY_ORDER, Cause.JSON_ESCAPED],
        ),
        (
            write(bizContent=TEXT.replace('{"n":"0","m":"1"}', '{"m":"1","n":"0"}')),
            [Cause.JSON_KEY_ORDER],
        ),
        (write(bizContent=TEXT.replace('"n":"0",', "")), [Cause.ZERO_DROPPED]),
        (write(bizContent=TEXT.replace('"n":', '"e":"","f":null,"n":')), [Cause.EMPTY_KEPT]),
        (write(bizContent=TEXT.replace("r-1", "r-2")), [Cause.OTHER_VALUE]),
        (write(bizContent=TEXT[:-1]), [Cause.OTHER_VALUE]),
        (write(bizContent=TEXT.replace("茶", "?"), nonce="n2"), [Cause.CHARSET, Cause.OTHER_VALUE]),
        ("foo=bar", []),
        ("", []),
        ("[]&{}", []),
    ],
)
def test_every_mistake_of_a_string_is_named(theirs: str, causes: list[Cause]) -> None:
    """Parameter by parameter, however many there are."""
    assert causes == find_causes(PARAMS, theirs)


def test_gbk_is_named_beside_another_mistake() -> None:
    """Its bytes are no UTF-8."""
    theirs = write(nonce="n2").encode("gbk").decode("utf-8", "surrogateescape")

    assert [Cause.CHARSET, Cause.OTHER_VALUE] == find_causes(PARAMS, theirs)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1&b=2", [("a", "1"), ("b", "2")]),
        ("a=1&b&c=2", [("a", "1&b"), ("c", "2")]),
        ("alone", [("alone", "")]),
        ('bizContent={"a":"b&c=d"}&n=1', [("bizContent", '{"a":"b&c=d"}'), ("n", "1")]),
        ('bizContent={"a":"b&c=d&n=1', [("bizContent", '{"a":"b'), ("c", "d"), ("n", "1")]),
        ('bizContent={"a":"&c="&n=1', [("bizContent", '{"a":"&c="'), ("n", "1")]),
        ("bizContent=" + "[" * 100_000, [("bizContent", "[" * 100_000)]),
    ],
    ids=range(8),
)
def test_string_is_split_at_its_names(text: str, pairs: list[tuple[str, str]]) -> None:
    """What stands inside of JSON is no name."""
    assert pairs == split_pairs(text)


def find(ours: str, theirs: bytes) -> Difference:
    """Return the difference of two strings that differ."""
    found = find_difference(
        ours.encode(), theirs, dict(split_pairs(ours)), hide=lambda text, _: text
    )
    assert found is not None
    return found


def test_difference_is_counted_in_bytes() -> None:
    """As a person finds it with cmp or xxd; it is shown in whole characters."""
    found = find("a=茶x&b=1", "a=茷x&b=1".encode())

    assert (4, "a", "a=", "茶x&b=1", "茷x&b=1") == (
        found.offset,
        found.parameter,
        found.before,
        found.ours,
        found.theirs,
    )


def test_difference_at_the_end_is_of_no_parameter() -> None:
    """One of both goes on."""
    longer, shorter = find("a=1", b"a=1&b="), find("a=1&b=2", b"a=1")

    assert ("", "", "&***") == (longer.parameter, longer.ours, longer.theirs)
    assert ("b", "&b=2", "") == (shorter.parameter, shorter.ours, shorter.theirs)


def test_long_texts_are_cut_around_the_difference() -> None:
    """So that a person sees the place."""
    found = find(f"a={'x' * 50}1{'y' * 50}&b=1", f"a={'x' * 50}2{'y' * 50}&b=1".encode())

    assert found.before == "…" + "x" * 28
    assert found.ours == "1" + "y" * 27 + "…"
    assert found.theirs == "2" + "y" * 27 + "…"


def test_same_strings_have_no_difference() -> None:
    """There is nothing to show."""
    assert find_difference(b"a", b"a", {}, hide=lambda text, _: text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CANONICAL, CANONICAL),
        ("timestamp=1490063145767canary", "timestamp=1490063145767***"),
        ("timestamp=canary", "timestamp=***"),
        ("timestamp=14900631457670001", "timestamp=1490063145767***"),
        ("nonce=n1canary", "nonce=n1***"),
        ("nonce=canary", "nonce=***"),
        ("nonce=other&appKey=gm1", "nonce=other&appKey=gm1"),
        ("canary", "***"),
        ("token=canary&nonce=n1", "***&nonce=n1"),
        ("openId=canary&nonce=n1", "openId=***&nonce=n1"),
        ('bizContent={"payToken":"canary"}&nonce=n1', 'bizContent={"payToken":"***"}&nonce=n1'),
        ("bizContent={payToken=canary, a=1}&nonce=n1", "bizContent={payToken=***, a=1}&nonce=n1"),
        ("bizContent={'open_id': 'canary'}&nonce=n1", "bizContent={'open_id': '***'}&nonce=n1"),
        (
            'bizContent={"a":"{\\"payToken\\":\\"canary\\"}"}&nonce=n1',
            'bizContent={"a":"{\\"payToken\\":\\"***\\"}"}&nonce=n1',
        ),
        (
            "bizContent=%7B%22payToken%22%3A%22canary%22%7D&nonce=n1",
            "bizContent=%7B%22payToken%22%3A%22***%22%7D&nonce=n1",
        ),
        (
            "bizContent=%257B%2522payToken%2522%253A%2522canary%2522%257D&nonce=n1",
            "bizContent=%257B%2522payToken%2522%253A%2522***%2522%257D&nonce=n1",
        ),
    ],
)
def test_what_may_be_secret_is_masked(text: str, shown: str) -> None:
    """The mask has the length of what it hides, until it is shown."""
    masked = mask_text(text, PARAMS)

    assert len(text) == len(masked)
    assert shown == shorten_masks(masked)

"""Fingerprints tell requests apart; derived requestIds do not depend on a store."""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from tests.protocol import samples
from tests.support.examples import count_examples
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import idempotency_key
from wxpay_async.protocol.codec import serialize, wire_fields
from wxpay_async.protocol.idempotency_key import Fingerprint, derive_request_id, digest_fields
from wxpay_async.protocol.requests import MiniProgramPay, Request, order_number

EXAMPLES = count_examples(quick=400, full=2000)
CONTENT = {
    "outTradeNo": None,
    "requestId": "r-1",
    "amount": "0.10",
    "items": [{"a": "1", "b": "2"}],
}


def fingerprint(operation: str, fields: Mapping[str, object]) -> Fingerprint:
    """Return the fingerprint of these fields, the order number among them."""
    content = json.dumps({n: v for n, v in fields.items() if n != "outTradeNo"})
    order = fields.get("outTradeNo")
    return idempotency_key.fingerprint(operation, content.encode(), cast("str | None", order))


@pytest.mark.parametrize(
    "request_",
    [
        samples.trade(trade_info=[samples.item(royalty_info=[samples.royalty()])]),
        samples.trade(extra={"note": "茶", "flags": [True, None, {"b": 1, "a": "2"}]}),
        samples.pay(out_trade_no="A-1"),
        samples.refund(),
    ],
)
def test_digest_of_the_fields_is_that_of_the_fingerprint(request_: Request) -> None:
    """What a batch looks up by one was stored by the other."""
    order = order_number(request_)
    stored = idempotency_key.fingerprint("any", serialize(request_), order)

    assert stored.digest == digest_fields("any", wire_fields(request_), order)


def test_fingerprint_of_the_same_content_is_the_same() -> None:
    """The order of names says nothing."""
    turned = {
        "outTradeNo": None,
        "items": [{"b": "2", "a": "1"}],
        "amount": "0.10",
        "requestId": "r-1",
    }

    assert fingerprint("pay", CONTENT) == fingerprint("pay", turned)
    assert () == fingerprint("pay", CONTENT).differences(fingerprint("pay", turned))


def test_fingerprint_is_a_sha_256_of_the_canonical_encoding() -> None:
    """Known values: a store outlives a release."""
    text = (
        '["pay",{"amount":"0.10","items":[{"a":"1","b":"2"}],"outTradeNo":null,"requestId":"r-1"}]'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()
    actual = fingerprint("pay", CONTENT)

    assert expected == actual.digest
    assert hashlib.sha256(b'"0.10"').hexdigest()[:16] == actual.fields["amount"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount": "0.11"}, ("amount",)),
        ({"amount": 0}, ("amount",)),
        ({"items": [{"a": "1"}, {"b": "2"}]}, ("items",)),
        ({"items": []}, ("items",)),
        ({"brandNew": None}, ("brandNew",)),
        ({"amount": "1", "requestId": "r-2"}, ("amount", "requestId")),
    ],
)
def test_differences_name_the_fields(change: dict[str, object], expected: tuple[str, ...]) -> None:
    """Sorted, changed and new ones alike, in both directions."""
    one, other = fingerprint("pay", CONTENT), fingerprint("pay", {**CONTENT, **change})

    assert one != other
    assert expected == one.differences(other) == other.differences(one)


def test_fingerprint_covers_the_operation() -> None:
    """The same fields of another operation are another request."""
    assert fingerprint("pay", CONTENT) != fingerprint("refund", CONTENT)


def test_fingerprint_is_known_by_its_digest() -> None:
    """Equal ones are one in a set; what is no fingerprint is never equal."""
    one, same = fingerprint("pay", CONTENT), fingerprint("pay", dict(CONTENT))

    assert 1 == len({one, same})
    assert one != one.digest


def test_fingerprint_shows_no_content() -> None:
    """Only digests are shown."""
    request = MiniProgramPay(
        request_id="r-1", pay_token="canary-token", terminal_payer_id="canary-openid"
    )
    made = fingerprint("pay", wire_fields(request))

    assert "canary" not in repr(made) + repr(dict(made.fields))
    assert 64 == len(made.digest)
    assert made == copy.copy(made)


CONTENTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.text("a1", max_size=2) | st.integers(0, 2) | st.none() | st.booleans(),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
        ),
        max_leaves=3,
    ),
)


def tag_types(value: object) -> object:
    """Tell apart what Python calls equal: 1 and True."""
    if isinstance(value, dict):
        return {name: tag_types(item) for name, item in value.items()}
    if isinstance(value, list):
        return [tag_types(item) for item in value]
    return (type(value), value)


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(CONTENTS, CONTENTS)
@example({"a": 1}, {"a": "1"})
@example({"a": 1}, {"a": True})
@example({"a": None}, {})
def test_fingerprints_of_different_content_differ(
    one: dict[str, object], other: dict[str, object]
) -> None:
    """And at least one field is named."""
    assume(tag_types(one) != tag_types(other))

    assert fingerprint("pay", one) != fingerprint("pay", other)
    assert fingerprint("pay", one).differences(fingerprint("pay", other))


# requestIds


def test_derived_id_is_stable() -> None:
    """Made by sha256sum from the length-prefixed parts: it may not change with a release."""
    # printf '3:app5:trade12:2019101700011:0' | sha256sum | cut -c1-32
    expected = "9c691cb2c2249eaa80b7fd3d6ea2dd7a"

    assert expected == derive_request_id("app", "trade", "201910170001")


def test_derived_id_counts_lengths_in_bytes() -> None:
    """One Chinese character counts three."""
    expected = hashlib.sha256("3:app3:pay6:订单1:2".encode()).hexdigest()[:32]

    assert expected == derive_request_id("app", "pay", "订单", 2)


PARTS = st.text("a1:0", min_size=1, max_size=4)
KEYS = st.tuples(PARTS, PARTS, PARTS, st.integers(0, 12))


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(KEYS, KEYS)
@example(("ab", "c", "d", 0), ("a", "bc", "d", 0))
@example(("a", "b", "c1", 0), ("a", "b", "c", 10))
@example(("a", "b1:c", "d", 0), ("a", "b", "1:cd", 0))
def test_derived_ids_of_different_purchases_differ(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    """However the parts are cut."""
    assume(one != other)

    assert derive_request_id(*one) != derive_request_id(*other)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(st.text("aZ09-:/订é😀", min_size=1))
def test_derived_id_is_always_a_request_id(key: str) -> None:
    """Any business key gives an id that a request accepts."""
    made = MiniProgramPay(
        request_id=derive_request_id("app", "pay", key), pay_token="t", terminal_payer_id="o"
    )

    assert 32 == len(made.request_id)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("", "pay", "1"), "app_key"),
        (("app", "", "1"), "operation"),
        (("app", "pay", ""), "key"),
        (("app", "pay", "1", -1), "generation"),
    ],
)
def test_derived_id_of_an_empty_part_is_refused(arguments: tuple[str, ...], field: str) -> None:
    """An empty part would give many purchases one id."""
    with pytest.raises(InvalidRequestError) as caught:
        derive_request_id(*arguments)

    assert field == caught.value.field


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "padding", [" ", "\t", "\n", "\u3000", "\u200b", "\ufeff", "\ufe0f", "\ud800"]
)
def test_derived_id_of_a_padded_part_is_refused(place: int, padding: str) -> None:
    """It would be another id for the same purchase, which would then be paid twice."""
    for padded in (lambda text: text + padding, lambda text: padding + text):
        parts = ["app", "pay", "O-1"]
        parts[place] = padded(parts[place])
        with pytest.raises(InvalidRequestError) as caught:
            derive_request_id(*parts)

        assert ("app_key", "operation", "key")[place] == caught.value.field


def test_fingerprint_from_a_store_keeps_its_digests() -> None:
    """It has digests and no content."""
    stored = Fingerprint("digest", {"payToken": "0123456789abcdef"})

    assert {"payToken": "0123456789abcdef"} == stored.fields

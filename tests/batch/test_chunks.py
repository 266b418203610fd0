"""Seal lines for workers, and open what a message queue delivers."""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from tests.support.canaries import OPENID, PLANTED_TOKEN, find_leaks, render_error
from wxpay_async.adapters.stores.sealed import make_cipher
from wxpay_async.batch import chunks
from wxpay_async.batch.chunks import MAX_BYTES
from wxpay_async.batch.line import BatchRequest, Line
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TerminalInfo,
    TradeItem,
    TradeQuery,
)
from wxpay_async.protocol.validators import Json

APP_KEY = "app-key"
KEYS = [b"1" * 32]
OTHER_KEYS = [b"2" * 32]

# What the fields hold

NUMBERS = st.text("abcXYZ019_-", min_size=1, max_size=20)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=0x9FFF, categories=["L", "N"]))
SUBJECTS = TEXTS.filter(bool)
REQUEST_IDS = st.text("abcXYZ019_-", min_size=1, max_size=32)
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SUBJECTS, inner, max_size=3),
    max_leaves=5,
)
EXTRAS = st.dictionaries(SUBJECTS.map("x{}".format), JSON, max_size=2)


def amounts(most: int) -> st.SearchStrategy[Decimal]:
    """Make amounts in whole fen."""
    return st.integers(1, most).map(lambda fen: Decimal(fen) / 100)


ROYALTIES = st.lists(
    st.builds(
        Royalty,
        payee_member_id=NUMBERS,
        amount=amounts(100),
        payee_identity_type=st.none() | SUBJECTS,
        extra=EXTRAS,
    ),
    max_size=3,
)


@st.composite
def items(draw: st.DrawFn) -> TradeItem:
    """Make an order of a trade whose total is right."""
    price, quantity = draw(amounts(10**6)), draw(st.integers(1, 99))
    total = price * quantity
    return TradeItem(
        out_trade_no=draw(NUMBERS),
        subject=draw(SUBJECTS),
        price=price,
        quantity=quantity,
        total_amount=total,
        payee_identity=draw(NUMBERS),
        currency=draw(st.none() | st.just("CNY")),
        royalty_info=draw(ROYALTIES) if total > 3 else (),
        extra=draw(EXTRAS),
    )


METHODS = st.builds(
    PayMethod,
    pay_product_code=st.sampled_from(["66", "67"]),
    amount=amounts(10**9),
    app_id=st.none() | NUMBERS,
    open_id=NUMBERS,
    buyer_id=st.none() | NUMBERS,
    extra=EXTRAS,
)
TRADES = st.builds(
    InstantTrade,
    request_id=REQUEST_IDS,
    trade_info=st.lists(items(), min_size=1, max_size=3, unique_by=lambda it: it.out_trade_no),
    payer_ip=st.sampled_from(["1.2.3.4", "2001:db8::1"]),
    pay_method=METHODS,
    cashier_type=st.sampled_from(["API", "SDK"]),
    timeout_express=st.none() | st.sampled_from(["0", "10m", "7d"]),
    terminal_info=st.builds(
        TerminalInfo, terminal_type=st.sampled_from(["01", "99"]), extra=EXTRAS
    ),
    extra=EXTRAS,
)
PAYS = st.builds(
    MiniProgramPay,
    request_id=REQUEST_IDS,
    pay_token=NUMBERS,
    terminal_payer_id=NUMBERS,
    app_id=st.none() | NUMBERS,
    out_trade_no=st.none() | NUMBERS,
    extra=EXTRAS,
)
REFUNDS = st.builds(
    Refund,
    request_id=REQUEST_IDS,
    out_trade_no=NUMBERS,
    orig_out_trade_no=NUMBERS,
    refund_amount=amounts(10**9).map(lambda amount: amount + 4),
    currency=st.none() | st.just("CNY"),
    royalty_info=ROYALTIES,
    extra=EXTRAS,
)
QUERIES = st.builds(TradeQuery, out_trade_no=NUMBERS) | st.builds(TradeQuery, trade_no=NUMBERS)


def lines_of(requests: st.SearchStrategy[BatchRequest]) -> st.SearchStrategy[list[Line]]:
    """Make lines that ask for one of these."""
    line = st.builds(
        Line,
        number=st.integers(1, 10**9),
        request=requests,
        key=NUMBERS,
        generation=st.integers(0, 3),
    ) | st.builds(Line, number=st.integers(1, 10**9), request=requests)
    return st.lists(line, max_size=4)


REFUND = Refund(
    request_id="refund-1", out_trade_no="r1", orig_out_trade_no="o1", refund_amount="1.50"
)
LINES = [Line(number=1, request=REFUND)]


def seal(lines: list[Line], keys: Sequence[bytes], *, app_key: str = APP_KEY) -> str:
    """Seal lines of the merchant."""
    return chunks.seal(lines, keys, app_key=app_key)


def unseal(message: str, keys: Sequence[bytes], *, app_key: str = APP_KEY) -> list[Line]:
    """Open a message as a worker of the merchant."""
    return chunks.unseal(message, keys, app_key=app_key)


def pack(packed: bytes, *, version: bytes = b"\x01") -> str:
    """Seal any bytes as a chunk, as another version of this package might."""
    cipher = make_cipher(chunks._derive_key(KEYS[0]))
    nonce = secrets.token_bytes(12)
    sealed = cipher.encrypt(nonce, packed, chunks._bind(APP_KEY))
    return base64.b64encode(version + nonce + sealed).decode()


def pack_json(value: object) -> str:
    """Seal any JSON as a chunk."""
    return pack(zlib.compress(json.dumps(value).encode()))


def refuse(message: str, keys: Sequence[bytes] = KEYS, *, app_key: str = APP_KEY) -> str:
    """Open a message that must not open; return the error's text."""
    with pytest.raises(InvalidRequestError) as refused:
        unseal(message, keys, app_key=app_key)
    assert "message" == refused.value.field
    return str(refused.value)


# What is sealed opens


@given(lines_of(PAYS) | lines_of(TRADES) | lines_of(REFUNDS) | lines_of(QUERIES))
def test_lines_of_every_operation_come_back_equal(lines: list[Line]) -> None:
    """Whatever the fields hold, a worker calls for exactly what the coordinator read."""
    opened = unseal(seal(lines, KEYS), KEYS)

    assert lines == opened
    assert repr(lines) == repr(opened)


def test_amount_comes_back_with_its_digits() -> None:
    """The fingerprint of a request is made of its text: 1.50 must not become 1.5."""
    (line,) = unseal(seal(LINES, KEYS), KEYS)

    assert isinstance(line.request, Refund)
    assert "1.50" == str(line.request.refund_amount)


def test_any_of_the_keys_opens() -> None:
    """A worker that has the next key already opens what the former key sealed."""
    assert LINES == unseal(seal(LINES, KEYS), OTHER_KEYS + KEYS)


def test_chunk_of_fifty_refunds_is_small() -> None:
    """Lines that resemble each other take little of the queue."""
    message = seal([Line(number=n, request=REFUND) for n in range(50)], KEYS)

    assert len(message) < 2_000


# What does not open


def test_other_key_is_refused() -> None:
    """A worker with another seal key says so and calls for nothing."""
    assert "another key" in refuse(seal(LINES, KEYS), OTHER_KEYS)


def test_other_app_key_is_refused() -> None:
    """A worker of another merchant refuses a chunk, even where both use the same key."""
    assert "another appKey" in refuse(seal(LINES, KEYS), app_key="other")


@given(st.data())
def test_changed_message_is_refused(data: st.DataObject) -> None:
    """No byte can be changed, nor any be cut off."""
    raw = bytearray(base64.b64decode(seal(LINES, KEYS)))
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]

    refuse(base64.b64encode(raw).decode())


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_foreign_message_is_refused(message: str) -> None:
    """A queue may hold whatever was put into it."""
    refuse(message)


def test_message_that_is_no_text_is_refused() -> None:
    """Engines deliver JSON, and null is JSON too."""
    assert "no Base64" in refuse(json.loads("null"))


def test_other_version_is_refused_by_its_number() -> None:
    """A worker that is older than the coordinator says what is wrong."""
    packed = zlib.compress(b"[]")

    assert "version 2 " in refuse(pack(packed, version=b"\x02"))


def test_bomb_is_refused_before_it_grows() -> None:
    """Not even a holder of the key can fill a worker's memory."""
    bomb = zlib.compress(b" " * (MAX_BYTES + 1))

    assert len(bomb) < 20_000
    assert "more than" in refuse(pack(bomb))


def test_chunk_at_the_limit_opens() -> None:
    """What may be sealed opens: the limits are one."""
    packed = zlib.compress(b"[]".ljust(MAX_BYTES))

    assert [] == unseal(pack(packed), KEYS)


@pytest.mark.parametrize(
    "packed",
    [b"[]", zlib.compress(b"[]")[:-1], zlib.compress(b"[]") + b"more"],
    ids=["not packed", "cut off", "more after it"],
)
def test_garbled_content_is_refused(packed: bytes) -> None:
    """What is not whole is not taken for the part that is there."""
    refuse(pack(packed))


@pytest.mark.parametrize(
    "change",
    [
        {"new_field": "1"},
        {"class": "Transfer"},
        {"refund_amount": "one"},
        {"refund_amount": "-1"},
        {"request_id": ""},
        {"royalty_info": [{"payee_member_id": "m", "amount": "0.01", "new_field": "1"}]},
        {"out_trade_no": None},
        {"out_trade_no": 1},
    ],
    ids=str,
)
def test_lines_that_are_not_known_are_refused(change: dict[str, object]) -> None:
    """A worker of an older version must not send less, or other things, than was asked."""
    known = {
        "request_id": "refund-1",
        "out_trade_no": "r1",
        "orig_out_trade_no": "o1",
        "refund_amount": "1.50",
        "class": "Refund",
    }
    assert LINES == unseal(pack_json([{"number": 1, "request": known}]), KEYS)

    assert "not known" in refuse(pack_json([{"number": 1, "request": known | change}]))


@pytest.mark.parametrize("value", [None, {}, [1], [{"number": 1}], "[]"], ids=str)
def test_content_that_holds_no_lines_is_refused(value: object) -> None:
    """JSON of another shape is refused like any other message."""
    refuse(pack_json(value))


def test_lines_that_are_too_large_are_not_sealed() -> None:
    """What would not open is not sent."""
    large = Line(number=1, request=REFUND, key="k" * MAX_BYTES)

    with pytest.raises(InvalidRequestError, match=r"message: \d+ bytes") as refused:
        seal([large], KEYS)
    assert "message" == refused.value.field


@pytest.mark.parametrize("keys", [[], [b"short"], [*KEYS, b""]], ids=["none", "short", "empty"])
def test_missing_key_is_refused(keys: list[bytes]) -> None:
    """Without a key of the right length nothing is sealed, and a fault of the settings is named."""
    with pytest.raises(InvalidRequestError) as refused:
        seal(LINES, keys)
    assert "seal_keys" == refused.value.field


# Secrets


def test_message_shows_no_credential_and_no_payer() -> None:
    """A reader of the queue learns nothing; equal lines do not even look alike."""
    pay = MiniProgramPay(request_id="p1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    lines = [Line(number=1, request=pay, key="the-key-of-the-line")]
    canaries = {
        "the openid": OPENID,
        "the payToken": PLANTED_TOKEN,
        "the seal key": KEYS[0].decode(),
        "the line's key": "the-key-of-the-line",
    }

    message = seal(lines, KEYS)

    raw = base64.b64decode(message)
    assert [] == find_leaks({"message": message, "bytes": raw}, canaries)
    assert message != seal(lines, KEYS)


def pack_unknown_pay() -> str:
    """Seal a payment that has a field of a later version."""
    request = {
        "request_id": "p1",
        "pay_token": PLANTED_TOKEN,
        "terminal_payer_id": OPENID,
        "class": "MiniProgramPay",
        "new_field": PLANTED_TOKEN,
    }
    return pack_json([{"number": 1, "request": request}])


def test_refusal_shows_no_credential() -> None:
    """An error of a chunk whose lines are not known goes to logs, with the locals of its frames."""
    message = pack_unknown_pay()

    with pytest.raises(InvalidRequestError) as refused:
        unseal(message, KEYS)

    shown = render_error(refused.value)
    assert [] == find_leaks(shown, {"the openid": OPENID, "the payToken": PLANTED_TOKEN})


def test_keys_of_chunks_and_of_the_store_are_unrelated() -> None:
    """A blob of the store does not open as a chunk, nor the other way round."""
    packed, nonce = zlib.compress(b"[]"), bytes(12)
    sealed = make_cipher(KEYS[0]).encrypt(nonce, packed, chunks._bind(APP_KEY))

    refuse(base64.b64encode(b"\x01" + nonce + sealed).decode())

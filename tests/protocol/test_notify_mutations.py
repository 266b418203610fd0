"""A hundred thousand mutations of a valid callback: none that says something else is believed.

The suite runs a few thousand; WXPAY_TEST_EXAMPLES=100000 runs them all.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from wxpay_async.errors import NotificationError
from wxpay_async.protocol.notify import Notifications
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier, RsaSigner, RsaVerifier, Signer

MUTATIONS = int(os.environ.get("WXPAY_TEST_EXAMPLES", "4000"))
TRACED = 2_000  # mutations whose memory is watched, which takes three times as long
KEYS = Path(__file__).parents[1] / "vectors" / "keys"
SIGNER = RsaSigner.from_pem((KEYS / "pkcs8.pem").read_bytes())
VERIFIER = RsaVerifier.from_pem((KEYS / "public.pem").read_bytes())
SECRET = "192006250b4c09247ec02edce69f6a2d"
APP_KEY = "gmd930ea5d5a258f4f"
NOW = 1_763_870_400.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def signed(signer: Signer) -> dict[str, str]:
    """Write and sign a callback by the published rule, without the package's help."""
    fields = {
        "out_trade_no": "201910170001",
        "inner_trade_no": "2019101700000001",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "33.69",
        "gmt_payment": "2019-10-17 12:30:00",
        "failReason": "余额不足",
        "memo": "商品的标题 + 1/3",
        "appKey": APP_KEY,
        "nonce": "76e71d31590d44f2aaa55fed6b3e267c",
        "timestamp": str(round(NOW * 1000)),
        **({"signType": "RSA"} if signer.sign_type else {}),
    }
    message = "&".join(f"{name}={fields[name]}" for name in sorted(fields))
    return {**fields, "sign": str(signer.sign(message.encode()))}


def endpoint(verifier: RsaVerifier | Md5Verifier, *, allow_unsigned: bool = True) -> Notifications:
    """Configure an endpoint whose time stands still."""
    return Notifications(
        verifier, app_key=APP_KEY, allow_unsigned=allow_unsigned, clock=lambda: NOW
    )


def accepted_by(notifications: Notifications, body: bytes) -> bool:
    """Tell whether a body is accepted; nothing but `NotificationError` may come out."""
    try:
        notifications.parse(FORM, body)
    except NotificationError:
        return False
    return True


Pairs = list[tuple[str, str]]
Mutator = Callable[[random.Random, Pairs], bytes]


def as_form(pairs: Pairs) -> bytes:
    """Encode pairs in order."""
    return urlencode(pairs).encode()


def flip_a_bit(chance: random.Random, pairs: Pairs) -> bytes:
    """Turn one bit of the body."""
    body = bytearray(as_form(pairs))
    body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def change_a_value(chance: random.Random, pairs: Pairs) -> bytes:
    """Write another value, sometimes only slightly another."""
    at = chance.randrange(len(pairs))
    name, value = pairs[at]
    longer = value + chance.choice([" ", "0", "\n", "&x=1", "=", "\u0000", "é"])
    other = chance.choice([longer, value[:-1], value[1:], value[::-1], "0.01", value.swapcase()])
    return as_form([*pairs[:at], (name, other), *pairs[at + 1 :]])


def rename(chance: random.Random, pairs: Pairs) -> bytes:
    """Write another name."""
    at = chance.randrange(len(pairs))
    name, value = pairs[at]
    other = chance.choice([f"{name}x", name.swapcase(), f" {name}", name[1:], "memo2", f"{name}\n"])
    return as_form([*pairs[:at], (other, value), *pairs[at + 1 :]])


def leave_out(chance: random.Random, pairs: Pairs) -> bytes:
    """Leave a field out, or its value."""
    at = chance.randrange(len(pairs))
    middle = chance.choice([[], [(pairs[at][0], "")]])
    return as_form([*pairs[:at], *middle, *pairs[at + 1 :]])


def add(chance: random.Random, pairs: Pairs) -> bytes:
    """Add a field, one that is there already, or one that would matter."""
    name = chance.choice([*dict(pairs), "gmt_close", "failReason", "refund_status", "x"])
    value = chance.choice(["1", "2019-10-17", "TRADE_SUCCESS", dict(pairs).get(name, "2")])
    extra = [*pairs]
    extra.insert(chance.randrange(len(pairs) + 1), (name, value))
    return as_form(extra)


def swap_values(chance: random.Random, pairs: Pairs) -> bytes:
    """Exchange the values of two fields."""
    (a, x), (b, y) = chance.sample(pairs, 2)
    return as_form([(name, {a: y, b: x}.get(name, value)) for name, value in pairs])


def recode(chance: random.Random, pairs: Pairs) -> bytes:
    """Encode in another charset than UTF-8, in escapes or raw."""
    charset = chance.choice(["gbk", "gb18030", "big5", "utf-16", "utf-7", "utf-32-le"])
    if chance.random() < 0.5:
        return urlencode(pairs, encoding=charset, errors="replace").encode()
    return "&".join(f"{name}={value}" for name, value in pairs).encode(charset, "replace")


def merge(chance: random.Random, pairs: Pairs) -> bytes:
    """Hide a field in the value of the one that is signed before it."""
    names = sorted(dict(pairs))
    at = chance.randrange(len(names) - 1)
    host, guest = names[at], names[at + 1]
    values = dict(pairs)
    values[host] += f"&{guest}={values.pop(guest)}"
    return as_form(list(values.items()))


def cut(chance: random.Random, pairs: Pairs) -> bytes:
    """End too early, or go on too long."""
    body = as_form(pairs)
    at = chance.randrange(len(body))
    return chance.choice(
        [body[:at], body[at:], body + body, body + b"\x00", b"\xef\xbb\xbf" + body]
    )


MUTATORS: tuple[Mutator, ...] = (
    flip_a_bit,
    change_a_value,
    rename,
    leave_out,
    add,
    swap_values,
    recode,
    merge,
    cut,
)


def meaning(body: bytes) -> dict[str, str] | None:
    """Return what a body says, read as leniently as possible; None if it says nothing."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        return None
    return (
        {name: value for name, value in pairs if value} if len(dict(pairs)) == len(pairs) else None
    )


def mutations(fields: dict[str, str], count: int) -> Iterator[bytes]:
    """Yield bodies that do not say what the fields say."""
    chance = random.Random(20191017)
    pairs = list(fields.items())
    while count:
        chance.shuffle(pairs)
        body = chance.choice(MUTATORS)(chance, pairs)
        if meaning(body) != fields:
            count -= 1
            yield body


@pytest.mark.parametrize("scheme", ["rsa", "md5"])
def test_no_mutation_is_accepted(scheme: str) -> None:
    """What no longer says what was signed is refused, by `NotificationError` and little memory."""
    fields = signed(SIGNER if scheme == "rsa" else Md5Signer(SECRET))
    verifier = VERIFIER if scheme == "rsa" else Md5Verifier(SECRET)
    open_to_hints, strict = endpoint(verifier), endpoint(verifier, allow_unsigned=False)
    assert strict.parse(FORM, urlencode(fields).encode()).fresh
    accepted: list[bytes] = []
    hints: list[bytes] = []

    def try_all(bodies: Iterable[bytes]) -> None:
        for body in bodies:
            if accepted_by(open_to_hints, body):
                (accepted if accepted_by(strict, body) else hints).append(body)

    bodies = mutations(fields, MUTATIONS // 2)
    tracemalloc.start()
    try:
        try_all(itertools.islice(bodies, TRACED))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    try_all(bodies)

    assert [] == accepted
    # What was cut off so that nothing of the envelope is left is what anybody could have written.
    for body in hints:
        assert not {"appKey", "nonce", "timestamp", "sign"} & (meaning(body) or fields).keys()
        assert not open_to_hints.parse(FORM, body).fresh
    assert 64 << 20 > peak


def percent(text: str, chance: random.Random) -> str:
    """Encode a text as a form may: any character may be escaped, in either case of the digits."""
    written = []
    for character in text:
        escaped = "".join(f"%{byte:02x}" for byte in character.encode())
        plain = "+" if character == " " else quote(character)
        bare = character if not character.isascii() else plain
        written.append(chance.choice([escaped, escaped.upper(), plain, bare]))
    return "".join(written)


def test_every_way_to_say_the_same_is_accepted() -> None:
    """Order, escapes and the case of their digits do not matter, nor do fields without a value."""
    chance = random.Random(20191018)
    fields = signed(SIGNER)
    parse = endpoint(VERIFIER).parse
    expected = parse(FORM, urlencode(fields).encode())
    for _ in range(MUTATIONS // 10):
        pairs = [*fields.items(), *([("gmt_close", "")] if chance.random() < 0.3 else [])]
        chance.shuffle(pairs)
        body = "&".join(f"{percent(n, chance)}={percent(v, chance)}" for n, v in pairs)
        assert expected == parse(FORM, body.encode())
        text = json.dumps(dict(pairs), ensure_ascii=chance.random() < 0.5)
        assert expected == parse(JSON, text.encode())

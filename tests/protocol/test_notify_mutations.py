"""Mutations of a valid callback: none with another meaning is believed.

The suite runs a few thousand; WXPAY_TEST_EXAMPLES=100000 tries them all.
"""

from __future__ import annotations

import itertools
import json
import random
import textwrap
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from tests.protocol.callbacks import JSON, TRADE, make_endpoint
from tests.support.examples import count_examples
from tests.support.platform import FORM, SECRET, SIGNER, VERIFIER, sign_callback
from wxpay_async.errors import NotificationError
from wxpay_async.protocol.notify import Notifications
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier

MUTATIONS = count_examples(quick=2_000, full=4_000)
TRACED = min(
    2_000, MUTATIONS // 4
)  # mutations whose memory is watched, which takes three times as long
FIELDS = TRADE | {"failReason": "余额不足"}


def is_accepted_by(notifications: Notifications, body: bytes) -> bool:
    """Tell whether a body is accepted; only `NotificationError` may be raised."""
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
    """Flip one bit of the body."""
    body = bytearray(as_form(pairs))
    body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def change_a_value(chance: random.Random, pairs: Pairs) -> bytes:
    """Change one value, sometimes only slightly."""
    at = chance.randrange(len(pairs))
    name, value = pairs[at]
    longer = value + chance.choice([" ", "0", "\n", "&x=1", "=", "\u0000", "é"])
    other = chance.choice([longer, value[:-1], value[1:], value[::-1], "0.01", value.swapcase()])
    return as_form([*pairs[:at], (name, other), *pairs[at + 1 :]])


def rename(chance: random.Random, pairs: Pairs) -> bytes:
    """Change one name."""
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
    """Add a field that is already there, or that would matter."""
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
    """Hide a field in the value of the field that is signed before it."""
    names = sorted(dict(pairs))
    at = chance.randrange(len(names) - 1)
    host, guest = names[at], names[at + 1]
    values = dict(pairs)
    values[host] += f"&{guest}={values.pop(guest)}"
    return as_form(list(values.items()))


def cut(chance: random.Random, pairs: Pairs) -> bytes:
    """Cut the body, or append to it."""
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


def read_meaning(body: bytes) -> dict[str, str] | None:
    """Read a body as leniently as possible; return None if it has no meaning."""
    try:
        text = body.decode("utf-8-sig")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        return None
    values = {name: value for name, value in pairs if value}
    if len(dict(pairs)) < len(pairs):
        return None
    if "sign" in values:
        values["sign"] = values["sign"].replace("\n", "")  # lines do not change a signature
    return values


def mutations(fields: dict[str, str], count: int) -> Iterator[bytes]:
    """Yield bodies with another meaning than the fields."""
    chance = random.Random(20191017)
    pairs = list(fields.items())
    while count:
        chance.shuffle(pairs)
        body = chance.choice(MUTATORS)(chance, pairs)
        if read_meaning(body) != fields:
            count -= 1
            yield body


@pytest.mark.parametrize("scheme", ["rsa", "md5"])
def test_no_mutation_is_accepted(scheme: str) -> None:
    """A body with another meaning is refused by a `NotificationError`, and takes little memory."""
    fields = sign_callback(FIELDS, signer=SIGNER if scheme == "rsa" else Md5Signer(SECRET))
    verifier = VERIFIER if scheme == "rsa" else Md5Verifier(SECRET)
    open_to_hints, strict = make_endpoint(verifier), make_endpoint(verifier, allow_unsigned=False)
    assert strict.parse(FORM, urlencode(fields).encode()).fresh
    accepted: list[bytes] = []
    hints: list[bytes] = []

    def try_all(bodies: Iterable[bytes]) -> None:
        for body in bodies:
            if is_accepted_by(open_to_hints, body):
                (accepted if is_accepted_by(strict, body) else hints).append(body)

    bodies = mutations(fields, MUTATIONS // 2)
    tracemalloc.start()
    try:
        try_all(itertools.islice(bodies, TRACED))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    try_all(bodies)

    assert [] == accepted
    # A mutation that lost all fields of the signature is an unsigned callback, and stays a hint.
    for body in hints:
        assert not {"appKey", "nonce", "timestamp", "sign"} & (read_meaning(body) or fields).keys()
        assert not open_to_hints.parse(FORM, body).fresh
    assert 64 << 20 > peak


def percent(text: str, chance: random.Random) -> str:
    """Encode a text as a form may: escape any character, with digits in upper or lower case."""
    written = []
    for character in text:
        escaped = "".join(f"%{byte:02x}" for byte in character.encode())
        plain = "+" if character == " " else quote(character)
        bare = character if not character.isascii() else plain
        written.append(chance.choice([escaped, escaped.upper(), plain, bare]))
    return "".join(written)


def break_sign(chance: random.Random, name: str, value: str) -> str:
    """Write a signature as some senders do: in lines, or without quoting its plus signs."""
    if name != "sign" or chance.random() < 0.3:
        return percent(value, chance)
    lines = textwrap.wrap(value, chance.choice([64, 76, 1_000]))
    return chance.choice(["\r\n", "%0A", "%0D%0A"]).join(lines)


def surround(chance: random.Random, body: bytes) -> bytes:
    """Add what platforms and proxies add to a form."""
    before = chance.choice([b"", b"&", b"\xef\xbb\xbf"])
    return before + body + chance.choice([b"", b"&", b"\n", b"\r\n", b"&gmt_refund", b"&&note=&"])


def test_harmless_changes_are_accepted() -> None:
    """A body means the same with lines in its `sign`, and with a BOM, `&` or lone name too many."""
    chance = random.Random(20191019)
    parse = make_endpoint(VERIFIER).parse
    for number in range(MUTATIONS // 10):
        fields = sign_callback(FIELDS, nonce=f"n{number}")
        pairs = list(fields.items())
        chance.shuffle(pairs)
        written = (f"{percent(n, chance)}={break_sign(chance, n, v)}" for n, v in pairs)
        body = surround(chance, "&".join(written).encode())
        headers = chance.choice([FORM, {}, {"Content-Type": ""}])
        assert parse(FORM, urlencode(fields).encode()) == parse(headers, body)


def test_equivalent_encodings_are_accepted() -> None:
    """Order, escapes and the case of their digits do not matter, nor do fields without a value."""
    chance = random.Random(20191018)
    fields = sign_callback(FIELDS)
    parse = make_endpoint(VERIFIER).parse
    expected = parse(FORM, urlencode(fields).encode())
    for _ in range(MUTATIONS // 10):
        pairs = [*fields.items(), *([("gmt_close", "")] if chance.random() < 0.3 else [])]
        chance.shuffle(pairs)
        body = "&".join(f"{percent(n, chance)}={percent(v, chance)}" for n, v in pairs)
        assert expected == parse(FORM, body.encode())
        text = json.dumps(dict(pairs), ensure_ascii=chance.random() < 0.5)
        assert expected == parse(JSON, text.encode())

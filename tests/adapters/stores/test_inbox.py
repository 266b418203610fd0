"""Check the key of an entry."""

from __future__ import annotations

from wxpay_async.adapters.stores.inbox import hash_key


def test_hash_of_key_has_limited_length_and_is_exact() -> None:
    """A key may be long and hold a lone surrogate; one difference makes another hash."""
    hashes = [hash_key("x" * 3000 + end) for end in ("", "a", "A", " ", "\ud800")]

    assert {64} == {len(key) for key in hashes}
    assert len(hashes) == len(set(hashes))


def test_hash_of_key_stays_the_same() -> None:
    """Stores hold it: it is what `printf 订单 | sha256sum` prints."""
    expected = "3d5436ea23d2e9a23eceecf41eaf15de80b51c12c649a07064e02373d2edf61a"

    assert expected == hash_key("订单")

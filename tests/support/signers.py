"""Load each private key of the sandboxes into OpenSSL once, since its checks take 20 to 80 ms."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import pytest
from Crypto.PublicKey import RSA

from wxpay_async.protocol.signing import RsaSigner
from wxpay_async.sandbox import server


@contextlib.contextmanager
def keep_signers() -> Generator[None]:
    """Give sandboxes that start with the same key the same signer; it has no state."""
    kept: dict[int, RsaSigner] = {}

    def make(key: RSA.RsaKey) -> RsaSigner:
        if key.n not in kept:
            kept[key.n] = RsaSigner(key)
        return kept[key.n]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "RsaSigner", make)
        yield

"""Where signatures are made."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from attrs import define, field

from wxpay_async.protocol.signing import Backend, Md5Signer, RsaSigner
from wxpay_async.signatures import Signatures

KEY = (Path(__file__).parent / "vectors" / "keys" / "pkcs1.pem").read_bytes()
MESSAGE = b"appKey=app&nonce=1"


def own_threads() -> set[str]:
    """Name the threads that sign."""
    return {thread.name for thread in threading.enumerate() if "wxpay" in thread.name}


@define(eq=False)
class Witness(RsaSigner):
    """Signs like its key, and notes where."""

    where: list[str] = field(factory=list)

    def __init__(self, inner: RsaSigner) -> None:
        self.where, self._sign = [], inner._sign

    def sign(self, message: bytes) -> str:
        """Sign."""
        self.where.append(threading.current_thread().name)
        return super().sign(message)


@pytest.mark.parametrize("backend", ["openssl", "pycryptodome"])
async def test_rsa_is_signed_beside_the_loop(backend: Backend) -> None:
    """The same signature, from a thread, and the loop turns meanwhile."""
    signer = RsaSigner.from_pem(KEY, backend=backend)
    witness = Witness(signer)
    signatures = Signatures(witness)

    made = await asyncio.gather(*(signatures.of(MESSAGE) for _ in range(8)))

    assert {signer.sign(MESSAGE)} == set(made)
    assert all(name.startswith("wxpay-signature") for name in witness.where)
    signatures.close()


async def test_md5_is_signed_at_once() -> None:
    """Telling a thread would take longer."""
    signer = Md5Signer("secret")
    before = own_threads()

    assert signer.sign(MESSAGE) == await Signatures(signer).of(MESSAGE)
    assert before == own_threads()


async def test_closing_lets_the_threads_go() -> None:
    """And the next signature starts others."""
    signer = RsaSigner.from_pem(KEY)
    signatures = Signatures(signer)
    await signatures.of(MESSAGE)
    (name,) = own_threads()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)

    signatures.close()
    signatures.close()
    await asyncio.to_thread(thread.join)

    assert set() == own_threads()
    assert signer.sign(MESSAGE) == await signatures.of(MESSAGE)
    signatures.close()


async def test_a_key_that_fails_says_so() -> None:
    """What a thread raises arrives."""
    signer = RsaSigner.from_pem(KEY)
    signer._sign = lambda _: bytes(1 // 0)
    signatures = Signatures(signer)

    with pytest.raises(ZeroDivisionError):
        await signatures.of(MESSAGE)
    signatures.close()

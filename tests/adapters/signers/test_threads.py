"""Where signatures are made."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from attrs import define, field

from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.protocol.signing import Backend, Md5Signer, RsaSigner, Signer

KEYS = Path(__file__).parents[2] / "vectors" / "keys"
KEY = (KEYS / "pkcs1.pem").read_bytes()
MESSAGE = b"appKey=app&nonce=1"


async def sign(signing: SigningExecutor, message: bytes) -> str:
    """Return the signature, awaited where it has to be."""
    signature = signing.sign(message)
    return signature if isinstance(signature, str) else await signature


def own_threads() -> set[str]:
    """Name the threads that sign."""
    return {thread.name for thread in threading.enumerate() if "wxpay" in thread.name}


@define(eq=False)
class Witness(RsaSigner):
    """Signs like its key, and notes where."""

    where: list[str] = field(factory=list)

    def __init__(self, inner: RsaSigner) -> None:
        self.where, self._sign = [], inner._sign
        self.bits, self.backend = inner.bits, inner.backend

    def sign(self, message: bytes) -> str:
        """Sign."""
        self.where.append(threading.current_thread().name)
        return super().sign(message)


@pytest.mark.parametrize(
    ("backend", "key"), [("pycryptodome", "pkcs1.pem"), ("openssl", "rsa3072.pem")]
)
async def test_what_takes_long_is_signed_beside_the_loop(backend: Backend, key: str) -> None:
    """The same signature, from a thread, and the loop turns meanwhile."""
    signer = RsaSigner.from_pem((KEYS / key).read_bytes(), backend=backend)
    witness = Witness(signer)
    signatures = SigningExecutor(witness)

    made = await asyncio.gather(*(sign(signatures, MESSAGE) for _ in range(8)))

    assert {signer.sign(MESSAGE)} == set(made)
    assert all(name.startswith("wxpay-signature") for name in witness.where)
    signatures.close()


@pytest.mark.parametrize(
    "signer", [Md5Signer("secret"), RsaSigner.from_pem(KEY, backend="openssl")], ids=repr
)
async def test_what_is_quick_is_signed_at_once(signer: Signer) -> None:
    """Telling a thread would take longer."""
    before = own_threads()

    assert signer.sign(MESSAGE) == await sign(SigningExecutor(signer), MESSAGE)
    assert own_threads() <= before  # those of an earlier test may be ending


class RemoteSigner:
    """A key-management service."""

    sign_type = "RSA"

    async def sign(self, message: bytes) -> str:
        """Sign somewhere else."""
        await asyncio.sleep(0)
        return f"remote {message.decode()}"


async def test_a_signer_may_be_asynchronous() -> None:
    """It is awaited."""
    assert f"remote {MESSAGE.decode()}" == await sign(SigningExecutor(RemoteSigner()), MESSAGE)


async def test_closing_lets_the_threads_go() -> None:
    """And the next signature starts others."""
    signer = RsaSigner.from_pem(KEY, backend="pycryptodome")
    signatures = SigningExecutor(signer)
    await sign(signatures, MESSAGE)
    (name,) = own_threads()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == name)

    signatures.close()
    signatures.close()
    await asyncio.to_thread(thread.join)

    assert set() == own_threads()
    assert signer.sign(MESSAGE) == await sign(signatures, MESSAGE)
    signatures.close()


async def test_a_key_that_fails_says_so() -> None:
    """What a thread raises arrives."""
    signer = RsaSigner.from_pem(KEY, backend="pycryptodome")
    signer._sign = lambda _: bytes(1 // 0)
    signatures = SigningExecutor(signer)

    with pytest.raises(ZeroDivisionError):
        await sign(signatures, MESSAGE)
    signatures.close()

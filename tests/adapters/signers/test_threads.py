"""Which signatures are made inline, and which in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from attrs import define, field

from tests.support.vectors import KEYS
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.protocol.signing import Backend, Md5Signer, RsaSigner, Signer

KEY = (KEYS / "pkcs1.pem").read_bytes()
MESSAGE = b"appKey=app&nonce=1"


async def sign(executor: SigningExecutor, message: bytes = MESSAGE) -> str:
    """Return the signature, awaited where it has to be."""
    signature = executor.sign(message)
    return signature if isinstance(signature, str) else await signature


def list_threads() -> list[threading.Thread]:
    """Return the threads that sign."""
    return [thread for thread in threading.enumerate() if "wxpay" in thread.name]


def join_threads() -> None:
    """Wait until no thread that signs is left."""
    for thread in list_threads():
        thread.join(10.0)
    assert [] == list_threads()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Let threads of earlier tests end first, and check that this test leaves none."""
    join_threads()
    yield
    join_threads()


@define(eq=False)
class NotingSigner(RsaSigner):
    """Signs like its key, and notes in which thread."""

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
async def test_signature_that_takes_long_is_made_in_a_thread(backend: Backend, key: str) -> None:
    """It is the same signature, and the loop is free meanwhile."""
    signer = RsaSigner.from_pem((KEYS / key).read_bytes(), backend=backend)
    noting = NotingSigner(signer)
    executor = SigningExecutor(noting)

    made = await asyncio.gather(*(sign(executor) for _ in range(8)))

    assert {signer.sign(MESSAGE)} == set(made)
    assert all(name.startswith("wxpay-signature") for name in noting.where)
    executor.close()


@pytest.mark.parametrize(
    "signer", [Md5Signer("secret"), RsaSigner.from_pem(KEY, backend="openssl")], ids=repr
)
async def test_signature_that_is_quick_is_made_inline(signer: Signer) -> None:
    """Handing it to a thread would take longer."""
    assert signer.sign(MESSAGE) == SigningExecutor(signer).sign(MESSAGE)
    assert [] == list_threads()


class RemoteSigner:
    """A key-management service."""

    sign_type = "RSA"

    async def sign(self, message: bytes) -> str:
        """Sign somewhere else."""
        await asyncio.sleep(0)
        return f"remote {message.decode()}"


async def test_signer_that_is_a_coroutine_function_is_awaited() -> None:
    """A signature may come from another machine."""
    assert f"remote {MESSAGE.decode()}" == await sign(SigningExecutor(RemoteSigner()))


async def test_close_ends_the_threads() -> None:
    """Closing twice does no harm, and the next signature starts new threads."""
    signer = RsaSigner.from_pem(KEY, backend="pycryptodome")
    executor = SigningExecutor(signer)
    await sign(executor)
    assert 1 == len(list_threads())

    executor.close()
    executor.close()
    await asyncio.to_thread(join_threads)

    assert signer.sign(MESSAGE) == await sign(executor)
    executor.close()


async def test_key_that_fails_raises_its_error() -> None:
    """What a thread raises reaches the caller."""
    signer = RsaSigner.from_pem(KEY, backend="pycryptodome")
    signer._sign = lambda _: bytes(1 // 0)
    executor = SigningExecutor(signer)

    with pytest.raises(ZeroDivisionError):
        await sign(executor)
    executor.close()

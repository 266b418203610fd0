"""Sign inline, or in a thread when signing would block the event loop for too long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from attrs import define, field

from wxpay_async.protocol.signing import RsaSigner, Signer

QUICK_BITS: Final = 2048
"""The longest key with which OpenSSL takes a quarter of a millisecond; 3072 bits take 0.7 ms."""


@define(eq=False)
class SigningExecutor:
    """Makes the signatures of one gateway.

    Handing a signature to a thread and back costs as much as making one by OpenSSL: the thread
    waits for the interpreter's lock, which a busy loop does not let go. pycryptodome, or a longer
    key, takes so long that all other tasks of the loop would wait too: those sign in a thread. A
    signer of one's own may be a coroutine.

    Attributes:
        signer: who signs.
    """

    signer: Signer
    _slow: RsaSigner | None = field(default=None, init=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.signer, RsaSigner):
            quick = self.signer.backend == "openssl" and self.signer.bits <= QUICK_BITS
            self._slow = None if quick else self.signer

    def sign(self, message: bytes) -> str | Awaitable[str]:
        """Return the signature of a canonical string, or what to await for it."""
        if self._slow is None:
            return self.signer.sign(message)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="wxpay-signature"
            )
        return asyncio.get_running_loop().run_in_executor(self._threads, self._slow.sign, message)

    def close(self) -> None:
        """Let the threads go; the next signature starts others."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

"""Signing beside the event loop, which an RSA signature would hold for too long."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from attrs import define, field

from wxpay_async.protocol.signing import RsaSigner, Signer, signature_of


@define(eq=False)
class Signatures:
    """Makes the signatures of one gateway.

    An RSA signature takes a quarter of a millisecond by OpenSSL and almost a whole one by
    pycryptodome. With 64 payments under way, that many of them in a row would keep everybody else
    waiting. Both let go of the interpreter's lock meanwhile, so a thread makes them; one core is
    left to the loop. An MD5 signature is made sooner than a thread is told to, and a signer of
    somebody else's may be a coroutine.

    Attributes:
        signer: who signs.
    """

    signer: Signer
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    async def of(self, message: bytes) -> str:
        """Return the signature of a canonical string."""
        if not isinstance(self.signer, RsaSigner):
            return await signature_of(self.signer, message)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="wxpay-signature"
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.signer.sign, message)

    def close(self) -> None:
        """Let the threads go; the next signature starts others."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

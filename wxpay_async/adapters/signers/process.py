"""Sign by RSA in a separate process, on another core, so that signing does not hold the event loop.

A thread cannot do that: it signs only when the busy loop releases the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, cast

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal
from wxpay_async.errors import NotSentError
from wxpay_async.protocol.signing import Backend, RsaSigner

_LENGTH: Final = struct.Struct("!I")
_CHUNK: Final = 1 << 16


class ProcessSigner:
    """Signs like an `RsaSigner`, in a process of its own.

    It is for programs that sign hundreds of requests a second: signing then takes the time of
    another core. The process starts with the first signature. It belongs to the running event loop
    and ends with it, by `aclose`, or with this process however that ends. The key reaches it
    through a pair of connected sockets, and stands in no argument, environment or file. Gateways
    may share one. It does not work on Windows.

    When the process dies, callers that wait get a `NotSentError`, which the gateway retries: the
    next signature starts another process.

    Args:
        signer: holds the key.
    """

    sign_type = RsaSigner.sign_type

    def __init__(self, signer: RsaSigner) -> None:
        self._signer = signer
        self._workers = LoopLocal(self._lifetime)

    async def sign(self, message: bytes) -> str:
        """Return the signature in Base64.

        Raises:
            NotSentError: the process could not be started, or has died.
        """
        try:
            worker = await self._workers.get()
            if worker.closed:
                await self._workers.drop(worker)
                worker = await self._workers.get()
        except OSError as error:
            raise NotSentError(
                f"no process can be started that signs: {type(error).__name__}"
            ) from error
        signature = await worker.submit(message)
        if signature is None:
            raise NotSentError("the process that signs has died")
        return signature

    def derive_key(self, context: bytes) -> bytes:
        """Return 32 bytes that only the holder of the private key knows, always the same ones."""
        return self._signer.derive_key(context)

    async def aclose(self) -> None:
        """End this loop's process; the next signature starts another."""
        await self._workers.aclose()

    async def _lifetime(self) -> AsyncGenerator[_Worker]:
        worker = _start_worker(self._signer)
        try:
            yield worker
        finally:
            worker.close()
            worker.process.kill()  # it may be stopped by a signal, and has nothing to lose
            await asyncio.to_thread(worker.process.wait)

    def __repr__(self) -> str:
        return f"ProcessSigner({self._signer!r})"


def _start_worker(signer: RsaSigner) -> _Worker:
    """Start a process and send it the key."""
    # It must import what we have imported, and nothing from the current directory.
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    command = (sys.executable, "-P", "-m", __name__)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this module, by this interpreter
                command, stdin=theirs.fileno(), env={**os.environ, "PYTHONPATH": paths}
            )
    except OSError:
        ours.close()
        raise
    ours.settimeout(0.0)
    worker = _Worker(process, ours, asyncio.get_running_loop())
    worker.write(signer.backend.encode())
    worker.write(signer.private_der())
    return worker


@define(eq=False)
class _Worker:
    """The process of one event loop. It answers in the order in which messages are submitted.

    Attributes:
        process: the process.
        socket: the other end of its standard input.
        loop: the loop that it belongs to.
        closed: it has died, or was closed.
    """

    process: subprocess.Popen[bytes]
    socket: socket.socket
    loop: asyncio.AbstractEventLoop
    closed: bool = field(default=False, init=False)
    _unsent: bytearray = field(factory=bytearray, init=False, repr=False)
    _received: bytes = field(default=b"", init=False)
    _pending: deque[asyncio.Future[str | None]] = field(
        factory=deque["asyncio.Future[str | None]"], init=False
    )

    def __attrs_post_init__(self) -> None:
        self.loop.add_reader(self.socket, self._receive)

    def submit(self, message: bytes) -> asyncio.Future[str | None]:
        """Have a message signed; the result is None if the process dies before."""
        signature: asyncio.Future[str | None] = self.loop.create_future()
        self._pending.append(signature)
        self.write(message)
        return signature

    def write(self, message: bytes) -> None:
        """Send a message, together with the others of this iteration of the loop."""
        if not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent += _LENGTH.pack(len(message)) + message

    def _send(self) -> None:
        if self.closed:
            return
        try:
            del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._unsent:
            self.loop.add_writer(self.socket, self._send)
        else:
            self.loop.remove_writer(self.socket)

    def _receive(self) -> None:
        """Resolve the signatures that arrived; each is a line."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        *signatures, self._received = (self._received + data).split(b"\n")
        for signature in signatures:
            self._resolve_next(signature.decode("ascii"))

    def close(self) -> None:
        """Close the socket, which ends the process, and resolve all that is pending with None."""
        if self.closed:
            return
        self.closed = True
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.socket.close()
        while self._pending:
            self._resolve_next(None)

    def _resolve_next(self, signature: str | None) -> None:
        future = self._pending.popleft()
        if not future.done():  # it is done if its caller was cancelled
            future.set_result(signature)


def _serve(connection: socket.socket) -> None:
    """Sign messages until the other end closes the connection, which ends this process too."""
    stream = connection.makefile("rb")

    def read() -> bytes | None:
        length = stream.read(_LENGTH.size)
        return stream.read(*_LENGTH.unpack(length)) if length else None

    backend, key = (read() or b"" for _ in range(2))
    signer = RsaSigner.from_pem(key, backend=cast("Backend", backend.decode()))
    with contextlib.suppress(ConnectionError):
        while (message := read()) is not None:
            connection.sendall(signer.sign(message).encode() + b"\n")


if __name__ == "__main__":
    # A terminal or a supervisor signals every process; our caller has payments to finish first.
    for request_to_stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request_to_stop, signal.SIG_IGN)
    _serve(socket.socket(fileno=sys.stdin.fileno()))

"""RSA signatures by a process of their own: on another core, and out of the event loop's way.

A thread cannot do that: it signs only once the busy loop lets go of the interpreter's lock.
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
    """Sign like an `RsaSigner`, in a process of its own.

    For whoever signs hundreds of requests a second: the time of a signature is then another core's.
    The process starts with the first signature. It belongs to the running event loop and ends with
    it, by `aclose`, or with this process however that ends. The key reaches it through a pair of
    connected sockets, and stands in no argument, environment or file. Gateways may share one. Not
    on Windows.

    Where the process has died, whoever waits gets a `NotSentError`, which the gateway retries: the
    next signature starts another.

    Args:
        signer: holds the key.
    """

    sign_type = RsaSigner.sign_type

    def __init__(self, signer: RsaSigner) -> None:
        self._signer = signer
        self._children = LoopLocal(self._lifetime)

    async def sign(self, message: bytes) -> str:
        """Return the signature in Base64.

        Raises:
            NotSentError: the process could not be started, or has died.
        """
        try:
            child = await self._children.get()
            if child.over:
                await self._children.drop(child)
                child = await self._children.get()
        except OSError as error:
            raise NotSentError(
                f"no process can be started that signs: {type(error).__name__}"
            ) from error
        signature = await child.ask(message)
        if signature is None:
            raise NotSentError("the process that signs has died")
        return signature

    def derive_key(self, context: bytes) -> bytes:
        """Return 32 bytes that only the holder of the private key knows, always the same ones."""
        return self._signer.derive_key(context)

    async def aclose(self) -> None:
        """End the process of this loop; the next signature starts another."""
        await self._children.aclose()

    async def _lifetime(self) -> AsyncGenerator[_Child]:
        child = _started(self._signer)
        try:
            yield child
        finally:
            child.leave()
            child.process.kill()  # it may be stopped, and has nothing to lose
            await asyncio.to_thread(child.process.wait)

    def __repr__(self) -> str:
        return f"ProcessSigner({self._signer!r})"


def _started(signer: RsaSigner) -> _Child:
    """Start a process, and tell it the key."""
    # It is to import what we have imported, and nothing from the folder that we stand in.
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
    child = _Child(process, ours, asyncio.get_running_loop())
    child.tell(signer.backend.encode())
    child.tell(signer.private_der())
    return child


@define(eq=False)
class _Child:
    """The process of one event loop. It answers in the order in which it is asked.

    Attributes:
        process: what runs.
        socket: the other end of its standard input.
        loop: whose it is.
        over: it has died, or was left.
    """

    process: subprocess.Popen[bytes]
    socket: socket.socket
    loop: asyncio.AbstractEventLoop
    over: bool = field(default=False, init=False)
    _unsent: bytearray = field(factory=bytearray, init=False, repr=False)
    _answers: bytes = field(default=b"", init=False)
    _asked: deque[asyncio.Future[str | None]] = field(
        factory=deque["asyncio.Future[str | None]"], init=False
    )

    def __attrs_post_init__(self) -> None:
        self.loop.add_reader(self.socket, self._receive)

    def ask(self, message: bytes) -> asyncio.Future[str | None]:
        """Have a message signed; None when nobody will."""
        answer: asyncio.Future[str | None] = self.loop.create_future()
        self._asked.append(answer)
        self.tell(message)
        return answer

    def tell(self, message: bytes) -> None:
        """Send a message, together with what else is sent in this turn of the loop."""
        if not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent += _LENGTH.pack(len(message)) + message

    def _send(self) -> None:
        if self.over:
            return
        try:
            del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.leave()
            return
        if self._unsent:
            self.loop.add_writer(self.socket, self._send)
        else:
            self.loop.remove_writer(self.socket)

    def _receive(self) -> None:
        """Hand the signatures out; each is a line."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
        *signatures, self._answers = (self._answers + data).split(b"\n")
        for signature in signatures:
            self._hand_out(signature.decode("ascii"))

    def leave(self) -> None:
        """Ask nothing more, which ends it; whoever still waits hears that nothing will come."""
        if self.over:
            return
        self.over = True
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.socket.close()
        while self._asked:
            self._hand_out(None)

    def _hand_out(self, signature: str | None) -> None:
        answer = self._asked.popleft()
        if not answer.done():  # it is when its caller was cancelled
            answer.set_result(signature)


def _serve(connection: socket.socket) -> None:
    """Sign what is asked until nobody can ask any more: the end of the process is its caller's."""
    asked = connection.makefile("rb")

    def read() -> bytes | None:
        length = asked.read(_LENGTH.size)
        return asked.read(*_LENGTH.unpack(length)) if length else None

    backend, key = (read() or b"" for _ in range(2))
    signer = RsaSigner.from_pem(key, backend=cast("Backend", backend.decode()))
    with contextlib.suppress(ConnectionError):
        while (message := read()) is not None:
            connection.sendall(signer.sign(message).encode() + b"\n")


if __name__ == "__main__":
    # A terminal or a supervisor tells every process to stop; ours has payments to finish first.
    for request_to_stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request_to_stop, signal.SIG_IGN)
    _serve(socket.socket(fileno=sys.stdin.fileno()))

"""Inject the faults of `faults` into replies on a connection of aiohttp's server."""

from __future__ import annotations

import socket
import struct
from typing import Final

from aiohttp import web

from wxpay_async.sandbox.faults import ReplyFaultKind

_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: the kernel sends RST instead of FIN


async def inject_fault(
    request: web.BaseRequest, reply: web.Response, kind: ReplyFaultKind
) -> web.StreamResponse:
    """Replace a reply by a faulty one, or break its connection.

    Returns:
        What the server must write. The server notices by itself that the connection is closed.
    """
    transport = request.transport
    if transport is None:  # the caller is gone
        return reply
    match kind:
        case ReplyFaultKind.HTML_502:
            return web.Response(status=502, body=_PAGE, content_type="text/html")
        case ReplyFaultKind.TRUNCATED:
            await _send_half(request, reply)
            transport.close()
        case ReplyFaultKind.RESET:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        case ReplyFaultKind.DROP:
            transport.close()
        case _:  # a delay is over by now
            pass
    return reply


async def _send_half(request: web.BaseRequest, reply: web.Response) -> None:
    body = reply.body if isinstance(reply.body, bytes) else b""
    half = web.StreamResponse(status=reply.status, headers=reply.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])

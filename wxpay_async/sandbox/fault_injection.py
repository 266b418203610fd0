"""Carries out the mishaps of `faults` on a connection of aiohttp's server."""

from __future__ import annotations

import socket
import struct
from typing import Final

from aiohttp import web

from wxpay_async.sandbox.faults import ReplyFaultKind

_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: the kernel sends RST instead of FIN


async def spoil(
    request: web.BaseRequest, reply: web.Response, mishap: ReplyFaultKind
) -> web.StreamResponse:
    """Do to a reply what was asked for.

    Returns:
        What the server shall write. It notices by itself where the connection is gone.
    """
    transport = request.transport
    if transport is None:  # the caller did not wait for it
        return reply
    match mishap:
        case ReplyFaultKind.HTML_502:
            return web.Response(status=502, body=_PAGE, content_type="text/html")
        case ReplyFaultKind.TRUNCATED:
            await _send_half(request, reply)
            transport.close()
        case ReplyFaultKind.RESET:
            plug: socket.socket = transport.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
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

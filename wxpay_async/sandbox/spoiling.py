"""Carries out the mishaps of `faults` on a connection of aiohttp's server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from wxpay_async.sandbox.faults import Mishap

_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: the kernel sends RST instead of FIN


async def spoil(
    request: web.BaseRequest, reply: web.Response, mishap: Mishap
) -> web.StreamResponse:
    """Do to a reply what was asked for.

    Returns:
        What the server shall write. It notices by itself where the connection is gone.
    """
    match mishap:
        case Mishap.DELAY:
            return reply
        case Mishap.HTML_502:
            return web.Response(status=502, body=_PAGE, content_type="text/html")
        case Mishap.TRUNCATED:
            return await _truncate(request, reply)
        case Mishap.RESET:
            _hang_up(request, reset=True)
        case Mishap.DROP:
            _hang_up(request, reset=False)
    return reply


async def _truncate(request: web.BaseRequest, reply: web.Response) -> web.StreamResponse:
    body = reply.body if isinstance(reply.body, bytes) else b""
    headers: Mapping[str, str] = reply.headers
    half = web.StreamResponse(status=reply.status, headers=headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    _hang_up(request, reset=False)
    return half


def _hang_up(request: web.BaseRequest, *, reset: bool) -> None:
    transport = request.transport
    if transport is None:  # the caller was faster
        return
    if not reset:
        transport.close()
        return
    plug: socket.socket | None = transport.get_extra_info("socket")
    if plug is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()

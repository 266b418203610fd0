"""Let the faults of `faults` happen to replies on a connection of aiohttp's server."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from wxpay_async.sandbox.fault_kinds import FaultKind, RateLimit
from wxpay_async.sandbox.faults import Fault

_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: the kernel sends RST instead of FIN
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ERROR: Final = b'{"timestamp":1700000000000,"status":500,"error":"Internal Server Error"}'
_PIECES: Final = 10


def _make_page(title: str) -> bytes:
    return f"<html><head><title>{title}</title></head><body>nginx</body></html>".encode()


async def inject_fault(
    request: web.BaseRequest, reply: web.Response, fault: Fault
) -> web.StreamResponse:
    """Replace a reply by a faulty one, or break its connection.

    Returns:
        What the server must write. The server notices by itself that the connection is closed.
    """
    transport = request.transport
    if transport is None:  # the caller is gone
        return reply
    match fault.kind:
        case FaultKind.CUT_BODY:
            await _send_half(request, reply)
            transport.close()
        case FaultKind.RESET:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        case FaultKind.DROP_BEFORE_COMMIT | FaultKind.DROP_AFTER_COMMIT:
            transport.close()
        case FaultKind.DRIP:
            return await _drip(request, reply, fault.seconds)
        case _:  # a delay is over by now, and a platform's fault is in the reply
            return _replace(reply, fault)
    return reply


def _replace(reply: web.Response, fault: Fault) -> web.Response:
    """Return what arrives instead of a reply."""
    changed = reply
    match fault.kind:
        case FaultKind.HTML_502:
            changed = _answer_page(502, "502 Bad Gateway")
        case FaultKind.PROXY_408:
            changed = _answer_page(408, "408 Request Time-out")
        case FaultKind.HTTP_500:
            changed = web.Response(status=500, body=_ERROR, content_type="application/json")
        case FaultKind.GZIP:
            packed = gzip.compress(_get_body(reply))
            changed = _rewrite(reply, packed, {"Content-Encoding": "gzip"})
        case FaultKind.BOM:
            changed = _rewrite(reply, _BYTE_ORDER_MARK + _get_body(reply))
        case FaultKind.RATE_LIMITED:
            changed = _limit(reply, fault.variant)
        case _:
            pass
    return changed


def _limit(reply: web.Response, variant: RateLimit) -> web.Response:
    match variant:
        case RateLimit.ENVELOPE:
            return reply
        case RateLimit.ENVELOPE_429:
            reply.set_status(429)
            return reply
        case RateLimit.PAGE_429:
            return _answer_page(429, "429 Too Many Requests")
        case RateLimit.RETRY_AFTER_429:
            return web.Response(status=429, headers={"Retry-After": "1"})


def _answer_page(status: int, title: str) -> web.Response:
    return web.Response(status=status, body=_make_page(title), content_type="text/html")


def _get_body(reply: web.Response) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else b""


def _rewrite(
    reply: web.Response, body: bytes, more: Mapping[str, str] | None = None
) -> web.Response:
    headers = {name: text for name, text in reply.headers.items() if name != "Content-Length"}
    return web.Response(status=reply.status, body=body, headers={**headers, **(more or {})})


async def _send_half(request: web.BaseRequest, reply: web.Response) -> None:
    body = _get_body(reply)
    half = web.StreamResponse(status=reply.status, headers=reply.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])


async def _drip(
    request: web.BaseRequest, reply: web.Response, seconds: float
) -> web.StreamResponse:
    """Send a reply in ten pieces, with equal pauses between them."""
    body = _get_body(reply)
    slow = web.StreamResponse(status=reply.status, headers=reply.headers)
    slow.content_length = len(body)
    await slow.prepare(request)
    size = -(-len(body) // _PIECES)
    try:
        for start in range(0, len(body), size):
            await slow.write(body[start : start + size])
            await asyncio.sleep(seconds / _PIECES)
        await slow.write_eof()
    except ConnectionError:
        pass  # the caller did not wait for the rest
    return slow

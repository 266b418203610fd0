"""What a payer is answered when a handler raises an error."""

from __future__ import annotations

import httpx
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI

from wxpay_async.errors import WxPayError
from wxpay_async.integrations.aiohttp import error_middleware
from wxpay_async.integrations.fastapi import register_error_handlers


async def answer_payers(error: WxPayError) -> dict[str, str]:
    """Return what both integrations answer when a handler raises the error."""

    async def fail(_: web.Request) -> web.Response:
        raise error

    app = web.Application(middlewares=[error_middleware])
    app.add_routes([web.get("/", fail)])
    async with TestClient(TestServer(app)) as payer, payer.get("/") as reply:
        by_aiohttp = f"{reply.status} {reply.headers} {await reply.text()}"
    other = FastAPI()
    register_error_handlers(other)

    @other.get("/")
    async def fail_too() -> None:
        raise error

    transport = httpx.ASGITransport(other)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        answer = await client.get("/")
    by_fastapi = f"{answer.status_code} {answer.headers} {answer.text}"
    name = type(error).__name__
    return {f"aiohttp's answer to {name}": by_aiohttp, f"FastAPI's to {name}": by_fastapi}

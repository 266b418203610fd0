"""Answer the HTTP requests of a sandbox: of merchants by the platform, of people by its pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from attrs import define, field

from wxpay_async.sandbox.answers import Answers
from wxpay_async.sandbox.auth import IncomingRequest
from wxpay_async.sandbox.console.site import Console
from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.fault_injection import inject_fault
from wxpay_async.sandbox.fault_kinds import FaultKind
from wxpay_async.sandbox.fault_pages import FaultPages
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.guard import find_refusal
from wxpay_async.sandbox.openapi import build_openapi
from wxpay_async.sandbox.payer_pages import PayerPages
from wxpay_async.sandbox.platform import PATHS, Platform, Served
from wxpay_async.sandbox.responses import build_failure, encode_json

OPENAPI_PATH = "/openapi.json"


@define(eq=False, kw_only=True)
class Handler:
    """Answer requests.

    Attributes:
        platform: answers merchants.
        console: its pages.
        remote: whether the sandbox listens to other machines.
    """

    platform: Platform
    console: Console
    remote: bool = False
    _payer_pages: PayerPages = field(init=False)
    _fault_pages: FaultPages = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._payer_pages = PayerPages(self.platform, self._answers)
        self._fault_pages = FaultPages(self.platform.faults, self._answers)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._answers.build_error("the body is too large", status=413)
        incoming = IncomingRequest(
            method=request.method,
            path=request.path,
            query=request.rel_url.raw_query_string,
            body=body,
            content_type=request.headers.get("Content-Type", ""),
            address=request.remote or "",
        )
        if incoming.path in PATHS:
            return await self._serve_merchant(request, incoming)
        return await self._serve_person(request, incoming)

    async def _serve_person(
        self, request: web.BaseRequest, incoming: IncomingRequest
    ) -> web.StreamResponse:
        refusal = find_refusal(incoming.method, request.headers, remote=self.remote)
        if refusal:
            return self._answers.build_error(refusal, status=403)
        if (incoming.method, incoming.path) == ("GET", OPENAPI_PATH):
            return self._answers.build(encode_json(build_openapi(self.platform.url)))
        answer = (
            self._payer_pages.serve(incoming)
            or self._fault_pages.serve(incoming)
            or await self.console.serve(request, incoming)
        )
        if answer is None:
            self.console.journal.note_stray(incoming, "there is nothing here")
            return self._answers.build_error("there is nothing here", status=404)
        return answer

    async def _serve_merchant(
        self, request: web.BaseRequest, incoming: IncomingRequest
    ) -> web.StreamResponse:
        fault = self.platform.take_fault(incoming)
        ahead = fault.seconds if fault and fault.kind is FaultKind.CLOCK_OFF else 0.0
        served = self._serve_now(incoming, fault, ahead)
        for each in (fault, served.fault if served else None):
            if each and each.kind not in (FaultKind.CLOCK_OFF, FaultKind.DRIP):
                await asyncio.sleep(each.seconds)
        if served is None and fault and fault.kind is FaultKind.DELAY:
            served = self.platform.serve(incoming)
        reply = served.reply if served else build_failure(RefusalError(Code.INTERRUPTED))
        response = self._respond(reply, ahead=ahead)
        last = fault or (served.fault if served else None)
        return response if last is None else await inject_fault(request, response, last)

    def _serve_now(
        self, incoming: IncomingRequest, fault: Fault | None, ahead: float
    ) -> Served | None:
        """Let the platform answer before anything else happens; None if it does not, or later."""
        if fault is None or fault.executed:
            return self.platform.serve(incoming, ahead=ahead)
        if fault.kind is FaultKind.RATE_LIMITED:
            return Served(self.platform.refuse(incoming, RefusalError(Code.RATE_EXCEEDED)))
        return None

    def _respond(self, reply: Mapping[str, object], *, ahead: float) -> web.Response:
        return self._answers.build(encode_json(reply), ahead=ahead)

    @property
    def _answers(self) -> Answers:
        return self.console.answers

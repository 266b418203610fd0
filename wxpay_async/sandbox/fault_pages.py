"""Serve the orders of faults to programs: `/sandbox/faults`.

`GET` lists what is ordered and the kinds that there are, `POST` takes the fields of one fault as a
form, and `POST /sandbox/faults/clear` takes back the fault `number`, or all of them. Only this
machine may do so, also where other machines may pay.
"""

from __future__ import annotations

from aiohttp import web
from attrs import define

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.answers import Answers
from wxpay_async.sandbox.auth import IncomingRequest, read_pairs
from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.fault_input import (
    describe_ordered,
    list_fields,
    read_fault_form,
    read_number,
)
from wxpay_async.sandbox.fault_kinds import FaultKind
from wxpay_async.sandbox.fault_queue import Faults
from wxpay_async.sandbox.guard import is_own_machine
from wxpay_async.sandbox.responses import encode_json

FAULTS_PATH = "/sandbox/faults"
CLEAR_PATH = "/sandbox/faults/clear"


@define(eq=False)
class FaultPages:
    """Serve the orders of faults.

    Attributes:
        faults: what is ordered.
        answers: builds HTTP answers.
    """

    faults: Faults
    answers: Answers

    def serve(self, incoming: IncomingRequest) -> web.Response | None:
        """Answer a request; None if there is nothing here."""
        if incoming.path not in (FAULTS_PATH, CLEAR_PATH):
            return None
        if not is_own_machine(incoming.address):
            return self.answers.build_error("faults are ordered on this machine only", status=403)
        try:
            return self._act(incoming)
        except RefusalError as error:
            return self.answers.build_error(error.message, status=400)
        except InvalidRequestError as error:
            found = {"error": str(error), "field": error.field, "allowed": error.allowed}
            return self.answers.build(encode_json(found), status=400)

    def _act(self, incoming: IncomingRequest) -> web.Response | None:
        match incoming.method, incoming.path:
            case "GET", "/sandbox/faults":
                pass
            case "POST", "/sandbox/faults":
                self.faults.inject(read_fault_form(read_pairs(incoming)))
            case "POST", _:
                self.faults.clear(read_number(read_pairs(incoming).get("number", "")))
            case _:
                return None
        return self._list()

    def _list(self) -> web.Response:
        found = {
            "seed": self.faults.seed,
            "faults": [describe_ordered(each) for each in self.faults.list_ordered()],
            "happened": {str(kind): count for kind, count in self.faults.injected.items()},
            "kinds": {str(kind): list_fields(kind) for kind in FaultKind},
        }
        return self.answers.build(encode_json(found))

"""Whatever is sent, the sandbox answers as `/openapi.json` says; schemathesis makes the requests.

A request that is not signed is refused before its content is read. So the content of a signed call
is made by itself, from the schema that the description gives for bizContent.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies
from schemathesis import Case, GenerationMode, checks

from tests.sandbox.raw_merchant import (
    MERCHANTS,
    PAY,
    QUERY,
    REFUND,
    TRADE,
    make_trade_body,
    sign_md5,
)
from tests.support.examples import count_examples
from tests.support.purchases import KEY
from wxpay_async.integrations.threaded_sandbox import ThreadedSandbox
from wxpay_async.sandbox.openapi import build_openapi

FORM: Final = "application/x-www-form-urlencoded"
DOCUMENTED: Final = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def _describe_contents() -> dict[str, Any]:
    """Return the description with each bizContent as the body itself."""
    described = build_openapi("http://127.0.0.1")
    paths = {}
    for path in (TRADE, PAY, REFUND):
        call = described["paths"][path]["post"]
        form = call["requestBody"]["content"][FORM]["schema"]
        content = {
            "application/json": {"schema": form["properties"]["bizContent"]["contentSchema"]}
        }
        body = {"required": True, "content": content}
        paths[path] = {"post": {**call, "requestBody": body}}
    return {**described, "paths": paths}


SCHEMA: Final = schemathesis.openapi.from_dict(build_openapi("http://127.0.0.1"))
CONTENTS: Final = schemathesis.openapi.from_dict(_describe_contents())
CALLS: Final = [(path, method) for path in SCHEMA for method in SCHEMA[path]]
MODES: Final = strategies.sampled_from(list(GenerationMode))
same_at_each_run: Final[Callable[..., Any]] = settings(
    max_examples=count_examples(quick=15, full=60),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class Merchant:
    """Signs what schemathesis made, and sends it."""

    def __init__(self, sandbox: ThreadedSandbox, session: requests.Session) -> None:
        self.sandbox, self.session = sandbox, session
        self._numbers = itertools.count(1)

    def send(self, path: str, **params: str) -> requests.Response:
        """Sign the parameters of a call, and post them."""
        sent = {
            "appKey": self.sandbox.app_key,
            "nonce": f"nonce{next(self._numbers)}",
            "timestamp": str(int(time.time() * 1000)),
            **params,
        }
        sent["sign"] = sign_md5(sent, self.sandbox.app_secret)
        return self.session.post(self.sandbox.url + path, data=sent)

    def get(self, path: str, **params: str) -> Any:  # noqa: ANN401 - JSON
        """Send a call; its answer must be documented, and a success. Return its data."""
        answer = self.send(path, **params)
        expect_documented(answer, path)
        found = answer.json()
        assert found["success"], found
        return found["data"]


def _write(content: object) -> str:
    """Return a bizContent; bytes are no JSON, and so they stay."""
    return content.decode("latin-1") if isinstance(content, bytes) else json.dumps(content)


def expect_documented(answer: requests.Response, path: str, method: str = "POST") -> None:
    """Fail unless the description has such an answer."""
    SCHEMA[path][method].Case().validate_response(answer, checks=DOCUMENTED)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ThreadedSandbox]:
    """Run a sandbox in a thread, since schemathesis is synchronous."""
    with ThreadedSandbox(pay_key=KEY, quota=None) as running:
        yield running


@pytest.fixture(scope="module")
def merchant(sandbox: ThreadedSandbox) -> Iterator[Merchant]:
    """A merchant who signs by MD5."""
    with requests.Session() as session:
        yield Merchant(sandbox, session)


@pytest.mark.parametrize(("path", "method"), CALLS)
@same_at_each_run
@given(data=strategies.data())
def test_request_of_a_stranger_has_a_documented_answer(
    merchant: Merchant, path: str, method: str, data: strategies.DataObject
) -> None:
    """Forms that fit the description and forms that do not: no 5xx, nothing undocumented."""
    merchant.sandbox.faults.clear()  # one that was ordered would spoil the answers
    operation = SCHEMA[path][method]
    mode = data.draw(MODES) if operation.body else GenerationMode.POSITIVE
    case: Case = data.draw(operation.as_strategy(mode))
    case.call_and_validate(merchant.sandbox.url, merchant.session, checks=DOCUMENTED)


@pytest.mark.parametrize("path", list(CONTENTS))
@same_at_each_run
@given(data=strategies.data())
def test_signed_content_of_any_kind_has_a_documented_answer(
    merchant: Merchant, path: str, data: strategies.DataObject
) -> None:
    """The content fits its schema, or does not; it is always read, since the signature is good."""
    case: Case = data.draw(CONTENTS[path]["POST"].as_strategy(data.draw(MODES)))
    answer = merchant.send(path, bizContent=_write(case.body))
    expect_documented(answer, path)
    assert answer.json()["errorCode"] != "CO_MSG_000004"  # a wrong signature


def test_purchase_has_documented_answers(merchant: Merchant) -> None:
    """What succeeds is documented, too: chance alone makes no order."""

    def ask(path: str, **content: object) -> Any:  # noqa: ANN401 - JSON
        return merchant.get(path, bizContent=json.dumps(content))

    token = ask(TRADE, **make_trade_body("A1"))["payToken"]
    payer = {"terminalPayerId": "openid-1", "targetOrganization": "WECHAT"}
    ask(PAY, requestId="p-A1", payToken=token, **payer)
    confirmed = merchant.session.post(
        f"{merchant.sandbox.url}/sandbox/confirm", data={"outTradeNo": "A1"}
    )
    expect_documented(confirmed, "/sandbox/confirm")
    ask(REFUND, requestId="q-A1", outTradeNo="B1", origOutTradeNo="A1", refundAmount="1.00")
    assert [merchant.get(QUERY, outTradeNo=each)["status"] for each in ("A1", "B1")]
    assert merchant.get(MERCHANTS)["merchants"]
    ledger = merchant.session.get(f"{merchant.sandbox.url}/sandbox/ledger")
    expect_documented(ledger, "/sandbox/ledger", "GET")
    assert len(ledger.json()) == 4

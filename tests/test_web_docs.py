"""The app of `docs/web.md` runs as it is printed: two merchants, pydantic bodies, websockets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from attrs import define
from fastapi.testclient import TestClient

from tests.support.pages import find_files
from tests.support.platform import FORM, encode_callback, sign_callback
from wxpay_async import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Md5Signer,
    Md5Verifier,
    Notifications,
    PayGateway,
)
from wxpay_async.integrations.testing import ThreadedSandbox, make_gateway
from wxpay_async.sandbox import Fault

PAGE = Path(__file__).parents[1] / "docs" / "web.md"
OTHER_KEY = "gm-of-the-cups"
ORDER = {"number": "N1", "amount": "12.50", "openid": "openid-0123456789"}
JSAPI = {"timeStamp", "nonceStr", "package", "signType", "paySign"}


@define(eq=False)
class Market:
    """The app of the page, its platform, and the secrets of both merchants by name."""

    sandbox: ThreadedSandbox
    client: TestClient
    merchants: dict[str, PayGateway]
    secrets: dict[str, str]

    def order(self, shop: str, **changes: str) -> int:
        """Order at a shop; return the HTTP status."""
        return self.client.post(f"/{shop}/orders", json=ORDER | changes).status_code

    def confirm(self, shop: str) -> None:
        """Confirm the payment of the order at that shop, as the payer does."""
        self.sandbox.platform.confirm("N1", app_key=self.merchants[shop].app_key)

    def send(self, shop: str, *, secret_of: str = "") -> bytes:
        """Send the callback of the order at that shop."""
        fields = {"out_trade_no": "N1", "inner_trade_no": "T", "trade_amount": "12.50"}
        merchant = self.merchants[shop]
        platform = self.sandbox.platform
        trade = platform.find_account(merchant.app_key).trades["N1"]
        signed = sign_callback(
            fields | {"trade_status": "TRADE_SUCCESS", "inner_trade_no": trade.trade_no},
            signer=Md5Signer(self.secrets[secret_of or shop]),
            app_key=merchant.app_key,
            at=platform.clock(),
        )
        return self.client.post("/notify", content=encode_callback(signed), headers=FORM).content


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Load the page's module."""
    [(name, text)] = find_files(PAGE).items()
    file = tmp_path_factory.mktemp("page") / name
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def market(shops: ModuleType) -> Iterator[Market]:
    """Open the page's app for two merchants of one platform."""
    with ThreadedSandbox(quota=None) as sandbox:
        secrets = {"tea": sandbox.app_secret, "cups": sandbox.add_app(OTHER_KEY).app_secret}
        tea = make_gateway(sandbox)
        cups = PayGateway(OTHER_KEY, Md5Signer(secrets["cups"]), base_url=sandbox.url)
        merchants = {"tea": tea, "cups": cups}
        notifications = [
            Notifications(Md5Verifier(secrets[name]), app_key=gateway.app_key)
            for name, gateway in merchants.items()
        ]
        with TestClient(shops.make_app(merchants, notifications)) as client:
            yield Market(sandbox, client, merchants, secrets)


def test_page_has_one_block_of_python() -> None:
    """So that none is left out."""
    assert 1 == PAGE.read_text(encoding="utf-8").count("```python\n")


def test_order_is_paid_at_its_own_merchant_only(market: Market) -> None:
    """Both have an order of the same number; a callback moves the one of its appKey."""
    answers = [market.client.post(f"/{shop}/orders", json=ORDER) for shop in ("tea", "cups")]
    assert [JSAPI] * 2 == [set(answer.json()) for answer in answers]
    market.confirm("cups")

    assert ACK_NOT_HANDLED == market.send("tea")  # the platform says that it is not paid
    assert ACK_NOT_HANDLED == market.send("cups", secret_of="tea")
    assert [] == market.client.get("/shipped").json()
    assert [ACK_HANDLED] * 2 == [market.send("cups") for _ in range(2)]
    assert [[OTHER_KEY, "N1"]] == market.client.get("/shipped").json()


def test_status_of_an_order_is_its_own_merchants(market: Market) -> None:
    """A result of the SDK is the answer, as JSON."""
    for shop in ("tea", "cups"):
        market.order(shop)
    market.confirm("cups")
    told = [market.client.get(f"/{shop}/orders/N1").json() for shop in ("tea", "cups")]

    assert [("N1", "awaiting"), ("N1", "paid")] == [
        (each["outTradeNo"], each["state"]) for each in told
    ]


def test_websocket_tells_when_the_order_is_paid(market: Market) -> None:
    """The callback wakes it, by the gateway of the same merchant."""
    market.order("cups")
    with market.client.websocket_connect("/cups/orders/N1/live") as socket:
        market.confirm("cups")
        assert ACK_HANDLED == market.send("cups")

        assert {"number": "N1", "state": "paid"} == socket.receive_json()


def test_websocket_tells_what_went_wrong(market: Market) -> None:
    """As the same problem that a request gets."""
    with market.client.websocket_connect("/tea/orders/none/live") as socket:
        problem = socket.receive_json()

    assert ("refused", False, 502) == (
        problem["error"],
        problem["retryable"],
        problem["status"],
    )


@pytest.mark.parametrize(
    ("shop", "changes", "status"),
    [
        ("tea", {"amount": "12.505"}, 422),
        ("tea", {"amount": "-1"}, 422),
        ("tea", {"number": "../x"}, 422),
        ("glass", {}, 404),
    ],
)
def test_bad_order_is_the_payers_mistake(
    market: Market, shop: str, changes: dict[str, str], status: int
) -> None:
    """Pydantic refuses the body, the dependency an unknown shop; nothing is sent."""
    assert status == market.order(shop, **changes)
    assert [] == list(market.sandbox.platform.ledger)


def test_payer_is_told_when_to_come_again(market: Market) -> None:
    """While the platform is away; afterwards the same request succeeds."""
    url = market.sandbox.url
    market.sandbox.faults.inject(Fault.reset(operation="trade"))
    answer = market.client.post("/tea/orders", json=ORDER)

    assert url == market.sandbox.url
    assert "application/problem+json" == answer.headers["content-type"]
    assert (409, "unusable", True) == (
        answer.status_code,
        answer.json()["error"],
        answer.json()["retryable"],
    )
    assert "retry-after" in answer.headers

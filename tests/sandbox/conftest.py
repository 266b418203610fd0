"""A merchant that signs by hand: nothing of the SDK's client side takes part in these tests."""

import base64
import hashlib
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from wxpay_async.sandbox import Sandbox

NOON = 1_763_870_400.0
Reply = dict[str, Any]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Tell the time in seconds since the epoch."""
        return self.now

    def move(self, seconds: float) -> None:
        """Move on by some seconds, or back."""
        self.now += seconds


class Merchant:
    """Signs with hashlib (MD5) or pycryptodome (RSA), posts with raw aiohttp."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox, *, rsa: bool) -> None:
        self.session = session
        self.sandbox = sandbox
        self.clock = sandbox.platform.clock
        self.app_key, self.app_secret = sandbox.app_key, sandbox.app_secret
        self.key: RSA.RsaKey | None = None
        self.rsa = rsa
        self._count = itertools.count(1)

    def envelope(self, params: dict[str, str]) -> dict[str, str]:
        """Lay out the parameters without the signature; given ones win."""
        return {
            "appKey": self.app_key,
            "nonce": f"nonce{next(self._count)}",
            "timestamp": str(int(self.clock() * 1000)),
            **({"signType": "RSA"} if self.rsa else {}),
            **params,
        }

    def signature(self, params: dict[str, str]) -> str:
        """Sign by the published rule."""
        text = "&".join(f"{k}={params[k]}" for k in sorted(params) if params[k] and k != "sign")
        if self.rsa:
            return base64.b64encode(pkcs1_15.new(self.key).sign(SHA256.new(text.encode()))).decode()
        text += f"&appSecret={self.app_secret}"
        return hashlib.md5(text.encode()).hexdigest().upper()

    def signed(self, **params: str) -> dict[str, str]:
        """Lay out and sign the parameters of one call; a given `sign` stays."""
        full = self.envelope(params)
        return {**full, "sign": params.get("sign", self.signature(full))}

    async def send(self, path: str, params: dict[str, str], *, query: bool = False) -> Reply:
        """Post parameters as they are."""
        url = self.sandbox.url + path
        if query:
            response = self.session.post(f"{url}?{urlencode(params)}")
        else:
            response = self.session.post(url, data=params)
        async with response as answer:
            assert answer.status == 200
            reply: Reply = json.loads(await answer.read())
            return reply

    async def call(self, path: str, **params: str) -> Reply:
        """Sign plain parameters and post them."""
        return await self.send(path, self.signed(**params))

    async def biz(self, path: str, body: object) -> Reply:
        """Sign a bizContent and post it."""
        return await self.call(path, bizContent=json.dumps(body, ensure_ascii=False))

    async def trade(self, number: str, **changes: object) -> Reply:
        """Create an order of 33.69 yuan."""
        return await self.biz("/api/instant/trade", trade_body(number, **changes))

    async def pay(self, request_id: str, token: str, **changes: object) -> Reply:
        """Ask for a prepay."""
        body = {
            "requestId": request_id,
            "payToken": token,
            "terminalPayerId": "openid-1",
            "targetOrganization": "WECHAT",
            "appId": "wx9236b1e84ffbf10a",
            **changes,
        }
        return await self.biz("/api/instant/pay/wxminiprogram", body)

    async def refund(self, number: str, orig: str, amount: str, **changes: object) -> Reply:
        """Give money back."""
        body = {
            "requestId": f"q-{number}",
            "outTradeNo": number,
            "origOutTradeNo": orig,
            "refundAmount": amount,
            **changes,
        }
        return await self.biz("/api/instant/refund", body)

    async def query(self, number: str) -> Reply:
        """Ask for an order or a refund."""
        return await self.call("/api/instant/query", outTradeNo=number)

    async def status(self, number: str) -> str:
        """Ask for an order's status."""
        reply = await self.query(number)
        return str(reply["data"]["status"])


def trade_item(number: str, total: str = "33.69", **changes: object) -> dict[str, Any]:
    """Lay out a row of tradeInfo: three pieces."""
    return {
        "outTradeNo": number,
        "subject": "商品的标题",
        "currency": "",
        "price": str(Decimal(total) / 3),
        "quantity": "3",
        "totalAmount": total,
        "payeeIdentity": "1000",
        "royaltyInfo": [{"payeeMemberId": "1001", "amount": "1.00"}],
        **changes,
    }


def trade_body(
    number: str,
    *,
    product: str = "67",
    payMethod: dict[str, object] | None = None,  # noqa: N803 - the platform's name
    **changes: object,
) -> dict[str, Any]:
    """Lay out an instant trade of one item of 33.69 yuan."""
    method = {
        "amount": "33.69",
        "payProductCode": product,
        "targetOrganization": "WECHAT",
        "appId": "wx9236b1e84ffbf10a",
        "openId": "openid-1",
    }
    return {
        "requestId": f"r-{number}",
        "bizProductCode": "20701",
        "payMethod": {**method, **(payMethod or {})},
        "payerIp": "11.22.33.44",
        "cashierType": "API",
        "terminalInfo": {"terminal_type": "01"},
        "timeoutExpress": "30m",
        "tradeInfo": [trade_item(number)],
        **changes,
    }


def _generated() -> RSA.RsaKey:
    made = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True)
    return RSA.import_key(made.stdout)


@pytest.fixture(scope="session")
def merchant_key() -> RSA.RsaKey:
    """The key with which the merchant signs."""
    return _generated()


@pytest.fixture(scope="session")
def pay_key() -> RSA.RsaKey:
    """The key with which the sandbox signs prepays."""
    return _generated()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon."""
    return Clock()


@pytest.fixture
def make_body() -> Callable[..., dict[str, Any]]:
    """Lay out an instant trade: `make_body(number, **changes)`."""
    return trade_body


@pytest.fixture
def make_item() -> Callable[..., dict[str, Any]]:
    """Lay out a row of tradeInfo: `make_item(number, total, **changes)`."""
    return trade_item


@pytest.fixture
async def sandbox(
    clock: Clock, merchant_key: RSA.RsaKey, pay_key: RSA.RsaKey
) -> AsyncIterator[Sandbox]:
    """A running sandbox that knows the merchant's public key."""
    public = merchant_key.public_key().export_key("PEM")
    async with Sandbox(merchant_public_key=public, pay_key=pay_key, clock=clock) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that knows nothing of the platform."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def merchant(session: aiohttp.ClientSession, sandbox: Sandbox) -> Merchant:
    """The merchant, signing by MD5."""
    return Merchant(session, sandbox, rsa=False)


@pytest.fixture(params=["md5", "rsa"])
def either(
    request: pytest.FixtureRequest,
    session: aiohttp.ClientSession,
    sandbox: Sandbox,
    merchant_key: RSA.RsaKey,
) -> Merchant:
    """The merchant, signing by MD5 and then by RSA."""
    signing = Merchant(session, sandbox, rsa=request.param == "rsa")
    signing.key = merchant_key
    return signing

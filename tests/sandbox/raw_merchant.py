"""A merchant that signs and verifies by hand, without the SDK's client side."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import App

TRADE = "/api/instant/trade"
PAY = "/api/instant/pay/wxminiprogram"
QUERY = "/api/instant/query"
REFUND = "/api/instant/refund"
MERCHANTS = "/api/company/merchants"

Reply = dict[str, Any]


class Merchant:
    """Signs with hashlib (MD5) or pycryptodome (RSA), posts with raw aiohttp."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sandbox: Sandbox,
        *,
        key: RSA.RsaKey | None = None,
    ) -> None:
        self.session = session
        self.sandbox = sandbox
        self.clock = sandbox.platform.clock
        self.app_key, self.app_secret = sandbox.app_key, sandbox.app_secret
        self.key = key
        """Signs by RSA; MD5 if it is None."""
        self._count = itertools.count(1)

    def switch_to(self, app: App) -> None:
        """Call under another appKey from now on."""
        self.app_key, self.app_secret = app.app_key, app.app_secret

    def envelope(self, params: dict[str, str]) -> dict[str, str]:
        """Lay out the parameters without the signature; given ones win."""
        return {
            "appKey": self.app_key,
            "nonce": f"nonce{next(self._count)}",
            "timestamp": str(int(self.clock() * 1000)),
            **({"signType": "RSA"} if self.key else {}),
            **params,
        }

    def signature(self, params: dict[str, str]) -> str:
        """Sign by the published rule."""
        if self.key is None:
            return sign_md5(params, self.app_secret)
        message = canonical_text(params).encode()
        return base64.b64encode(pkcs1_15.new(self.key).sign(SHA256.new(message))).decode()

    def sign(self, **params: str) -> dict[str, str]:
        """Lay out and sign the parameters of one call; a given `sign` stays."""
        full = self.envelope(params)
        return {**full, "sign": params.get("sign", self.signature(full))}

    async def send(self, path: str, params: dict[str, str], *, query: bool = False) -> Reply:
        """Post parameters as they are, as a form or in the query string."""
        url = self.sandbox.url + path
        if query:
            response = self.session.post(f"{url}?{urlencode(params)}")
        else:
            response = self.session.post(url, data=params)
        async with response as answer:
            assert answer.status == 200
            reply: Reply = json.loads(await answer.read())
            return reply

    async def send_bytes(self, path: str, body: bytes, content_type: str) -> Reply:
        """Post a body as it is."""
        headers = {"Content-Type": content_type}
        url = self.sandbox.url + path
        async with self.session.post(url, data=body, headers=headers) as answer:
            reply: Reply = json.loads(await answer.read())
            return reply

    async def call(self, path: str, **params: str) -> Reply:
        """Sign plain parameters and post them."""
        return await self.send(path, self.sign(**params))

    async def biz(self, path: str, body: object) -> Reply:
        """Sign a bizContent and post it."""
        return await self.call(path, bizContent=json.dumps(body, ensure_ascii=False))

    async def trade(self, number: str, **changes: object) -> Reply:
        """Create an order of 33.69 yuan."""
        return await self.biz(TRADE, make_trade_body(number, **changes))

    async def trade_token(self, number: str, **changes: object) -> str:
        """Create an order and return its payToken."""
        reply = await self.trade(number, **changes)
        return str(reply["data"]["payToken"])

    async def complete(self, number: str, **changes: object) -> None:
        """Create an order, confirm it as the payer, and wait for its callbacks."""
        await self.trade(number, **changes)
        self.sandbox.confirm(number)
        await self.sandbox.callbacks_idle()

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
        return await self.biz(PAY, body)

    async def refund(self, number: str, orig: str, amount: str, **changes: object) -> Reply:
        """Give money back."""
        body = {
            "requestId": f"q-{number}",
            "outTradeNo": number,
            "origOutTradeNo": orig,
            "refundAmount": amount,
            **changes,
        }
        return await self.biz(REFUND, body)

    async def query(self, number: str) -> Reply:
        """Ask for an order or a refund."""
        return await self.call(QUERY, outTradeNo=number)

    async def status(self, number: str) -> str:
        """Ask for an order's status."""
        reply = await self.query(number)
        return str(reply["data"]["status"])


def canonical_text(params: dict[str, str]) -> str:
    """Lay out what is signed, by the published rule."""
    return "&".join(f"{k}={params[k]}" for k in sorted(params) if params[k] and k != "sign")


def sign_md5(params: dict[str, str], secret: str) -> str:
    """Sign by the published MD5 rule."""
    text = f"{canonical_text(params)}&appSecret={secret}"
    return hashlib.md5(text.encode()).hexdigest().upper()


def verify_by_openssl(message: str, sign: str, public_key: str, folder: Path) -> bool:
    """Return whether the openssl program accepts an RSA signature in Base64."""
    key, signature = folder / "public.pem", folder / "signature"
    key.write_text(public_key)
    signature.write_bytes(base64.b64decode(sign))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature)],
        input=message.encode(),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def make_trade_item(number: str, total: str = "33.69", **changes: object) -> dict[str, Any]:
    """Make a row of tradeInfo: three pieces."""
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


def make_trade_body(
    number: str,
    *,
    product: str = "67",
    payMethod: dict[str, object] | None = None,  # noqa: N803 - the platform's name
    **changes: object,
) -> dict[str, Any]:
    """Make an instant trade of one item of 33.69 yuan."""
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
        "tradeInfo": [make_trade_item(number)],
        **changes,
    }

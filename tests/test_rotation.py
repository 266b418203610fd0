"""Follow the recipe of `rotation.md`: no answer is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import asking, replies
from tests.support.clock import MovedClock
from tests.support.platform import APP_KEY
from tests.support.vectors import KEYS, PRIVATE_KEY, ROOT
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError
from wxpay_async.protocol.results import TradeResult
from wxpay_async.protocol.signing import Md5Signer, RsaSigner

RECIPE = (ROOT / "docs" / "rotation.md").read_text(encoding="utf-8")
STEPS = [
    dict(line.strip().split("=", 1) for line in block.strip().splitlines())
    for block in re.findall(r"```ini\n(.*?)```", RECIPE, re.DOTALL)
]
"""The settings of each step, as printed."""
OLD = "secret-of-last-year"

Open = Callable[..., PayGateway]


@pytest.fixture
def open_gateway(tmp_path: Path) -> Open:
    """Return a function that starts another process: other settings, the same SQLite file."""
    (tmp_path / "merchant.pem").write_bytes(PRIVATE_KEY.read_bytes())
    (tmp_path / "merchant.pem").chmod(0o600)
    clock = MovedClock()

    def start(env: dict[str, str], answers: Any = (), **given: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
        full = {
            "WXPAY_APP_KEY": APP_KEY,
            "WXPAY_STORE_URL": f"sqlite:///{tmp_path / 'wxpay.db'}",
            **env,
        }
        if "WXPAY_PRIVATE_KEY_FILE" in full:
            full["WXPAY_PRIVATE_KEY_FILE"] = str(tmp_path / full["WXPAY_PRIVATE_KEY_FILE"])
        transport = MemoryTransport(answers)
        return PayGateway.from_env(
            full, transport=transport, limiter=Unlimited(), clock=clock, **given
        )

    return start


async def trade(gateway: PayGateway, number: int) -> TradeResult:
    """Create the order of one step, or have its answer again."""
    try:
        return await gateway.trade(asking.trade(f"trade-{number}"))
    finally:
        await gateway.aclose()


def test_recipe_has_its_five_steps() -> None:
    """From one secret to the next, to RSA, and to a key of the store's own."""
    assert [
        {"WXPAY_APP_SECRET"},
        {"WXPAY_APP_SECRET", "WXPAY_FORMER_SECRETS"},
        {"WXPAY_APP_SECRET", "WXPAY_FORMER_SECRETS"},
        {"WXPAY_PRIVATE_KEY_FILE", "WXPAY_FORMER_SECRETS"},
        {"WXPAY_PRIVATE_KEY_FILE", "WXPAY_FORMER_SECRETS", "WXPAY_SEAL_KEY"},
    ] == [set(step) for step in STEPS]


async def test_recipe_loses_no_answer(open_gateway: Open) -> None:
    """What was answered at one step is answered again at every later one, and nothing is sent."""
    for now, env in enumerate(STEPS):
        answer = replies.created(requestId=f"trade-{now}", payToken=f"token-{now}")
        created = await trade(open_gateway(env, [answer]), now)
        assert not created.replayed
        for earlier in range(now + 1):
            again = await trade(open_gateway(env), earlier)
            assert (f"token-{earlier}", True) == (again.pay_token, again.replayed)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1)])
async def test_recipe_lets_processes_of_two_steps_share_a_store(
    old: int, new: int, open_gateway: Open
) -> None:
    """While the new settings reach one process after another, each reads what the others write."""
    answer = replies.created(requestId="trade-0")
    created = await trade(open_gateway(STEPS[new], [answer]), 0)
    again = await trade(open_gateway(STEPS[old]), 0)

    assert (created.pay_token, True) == (again.pay_token, again.replayed)


async def test_forgotten_key_loses_nothing(open_gateway: Open) -> None:
    """The doubt names the cause, nothing is sent, and with the key the answer is there again."""
    await trade(open_gateway(STEPS[0], [replies.created(requestId="trade-0")]), 0)
    with pytest.raises(InDoubtError, match="WXPAY_FORMER_SECRETS"):
        await trade(open_gateway({"WXPAY_APP_SECRET": "secret-of-this-year"}), 0)

    assert "token-1" == (await trade(open_gateway(STEPS[2]), 0)).pay_token


async def test_former_private_key_is_named_in_the_code(open_gateway: Open) -> None:
    """As the recipe says for another private key: signers are taken for keys."""
    former = RsaSigner.from_pem((KEYS / "rsa3072.pem").read_bytes())
    answer = replies.created(requestId="trade-0")
    await trade(open_gateway(STEPS[3], [answer], seal_keys=[former]), 0)
    keys = [RsaSigner.from_pem(PRIVATE_KEY.read_bytes()), Md5Signer(OLD), former]

    assert "token-1" == (await trade(open_gateway(STEPS[3], seal_keys=keys), 0)).pay_token

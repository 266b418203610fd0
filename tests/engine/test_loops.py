"""One gateway in several event loops, and its end; importing and making do no I/O."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform, Script
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer

PREPAY = {
    "appId": "wx1",
    "timeStamp": "1",
    "nonceStr": "n",
    "prepayId": "p",
    "extPackage": "prepay_id=p",
    "signType": "RSA",
    "paySign": "s",
}


async def answer_later() -> dict[str, object]:
    """Answer after an iteration of the loop."""
    await asyncio.sleep(0)
    return {"success": True, "data": PREPAY}


STORE = MemoryStore()
GATEWAY = PayGateway(  # made at import time: there is no loop
    "k",
    Md5Signer("secret"),
    store=STORE,
    limiter=Unlimited(),
    transport=MemoryTransport(lambda _: answer_later()),
)


def make_hanging_gateway(**settings: Any) -> tuple[PayGateway, MemoryTransport]:  # noqa: ANN401 - the constructor's
    """Make a gateway whose platform does not answer."""
    transport = MemoryTransport(HeldPlatform())
    parts = {"transport": transport, "limiter": Unlimited(), **settings}
    return PayGateway("k", Md5Signer("secret"), **parts), transport


# Event loops


def test_gateway_works_in_one_loop_after_another() -> None:
    """A gateway made at import time works in one `asyncio.run` after another (lessons 6, 7)."""
    for number in range(3):
        result = asyncio.run(GATEWAY.pay(asking.pay(f"loop-{number}")))
        assert "p" == result.prepay_id


def test_gateway_replays_a_result_of_another_loop() -> None:
    """What is settled is not bound to a loop."""
    asyncio.run(GATEWAY.pay(asking.pay("replay")))

    assert asyncio.run(GATEWAY.pay(asking.pay("replay"))).replayed


def test_gateway_keeps_the_doubts_of_a_loop_that_ended() -> None:
    """Callers that waited when the first loop ended are cancelled; the next loop works."""
    store = MemoryStore()
    gateway, transport = make_hanging_gateway(store=store)

    async def leave_early() -> None:
        tasks = [asyncio.create_task(gateway.pay(asking.pay())) for _ in range(5)]
        await run_loop(20)
        assert not any(task.done() for task in tasks)

    async def state() -> State | None:
        record = await store.load(("k", "pay-1"))
        return record.state if record else None

    asyncio.run(leave_early())
    assert (1, State.UNKNOWN) == (transport.calls, asyncio.run(state()))
    transport._answers = lambda _: answer_later()

    assert "p" == asyncio.run(gateway.pay(asking.pay())).prepay_id


def test_gateway_that_was_full_in_one_loop_is_free_in_the_next() -> None:
    """Connections that were held when the first loop ended are not missing in the second."""
    gateway, transport = make_hanging_gateway(max_in_flight=1)

    async def hold() -> None:
        tasks = [asyncio.create_task(gateway.pay(asking.pay(f"full-{n}"))) for n in range(4)]
        await run_loop(20)
        assert not any(task.done() for task in tasks)

    async def pay() -> object:
        transport._answers = lambda _: answer_later()
        return await gateway.pay(asking.pay("free"))

    asyncio.run(hold())
    assert asyncio.run(pay()) is not None


def test_gateway_opens_and_closes_in_each_loop() -> None:
    """`async with` starts and ends the recovery in the loop that runs."""

    async def once(number: int) -> set[asyncio.Task[object]]:
        async with GATEWAY:
            await GATEWAY.pay(asking.pay(f"with-{number}"))
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert [set(), set()] == [asyncio.run(once(number)) for number in range(2)]


def test_gateway_forgets_a_loop_that_was_closed_over_its_tasks() -> None:
    """Not every loop ends as tidily as `asyncio.run`: what waited in it is forgotten with it."""
    code = """
import asyncio, json, os, sys
from wxpay_async import MemoryTransport, Md5Signer, MiniProgramPay, PayGateway, Unlimited
prepay = {"appId": "w", "timeStamp": "1", "nonceStr": "n", "prepayId": "p", "paySign": "s",
          "extPackage": "prepay_id=p", "signType": "RSA"}
hang = True

async def answer(_):
    while hang:
        await asyncio.sleep(3600)
    return {"success": True, "data": prepay}

def pay(name):
    request = MiniProgramPay(request_id=name, pay_token="t", terminal_payer_id="o")
    return gateway.pay(request, timeout=4)

async def leave():
    kept.extend(asyncio.ensure_future(pay(f"r{n}")) for n in range(3))
    for _ in range(20):
        await asyncio.sleep(0)

kept = []
gateway = PayGateway("k", Md5Signer("s"), transport=MemoryTransport(answer),
                     limiter=Unlimited(), max_in_flight=1)
loop = asyncio.new_event_loop()
loop.run_until_complete(leave())
loop.close()
hang = False

async def again():
    other, queued = await pay("new"), await pay("r2")
    await gateway.aclose()
    return [other.prepay_id, queued.prepay_id]

print(json.dumps(asyncio.run(again())))
sys.stdout.flush()
os._exit(0)  # the abandoned tasks have nothing more to say
"""
    assert ["p", "p"] == run_python(code)


# Closing


async def test_close_leaves_calls_under_way_in_doubt(open_shop: OpenShop) -> None:
    """The callers hear of a doubt, the records say so, and closing again does nothing."""
    gate = asyncio.Event()

    async def hang(_: object) -> object:
        await gate.wait()
        return {}

    shop = open_shop(Script([hang]))
    callers = [asyncio.create_task(shop.gateway.pay(asking.pay(f"pay-{n}"))) for n in range(5)]
    await run_loop()
    await shop.gateway.aclose()
    results = await asyncio.gather(*callers, return_exceptions=True)
    await shop.gateway.aclose()

    assert [InDoubtError] * 5 == [type(result) for result in results]
    assert {State.UNKNOWN} == {await shop.state(f"pay-{n}") for n in range(5)}


async def test_close_is_not_the_end(open_shop: OpenShop) -> None:
    """Closing releases connections; the next call opens new ones."""
    shop = open_shop([replies.prepay(), replies.prepay()])
    await shop.gateway.pay(asking.pay("a"))
    await shop.gateway.aclose()
    await shop.gateway.pay(asking.pay("b"))

    assert 2 == shop.transport.calls


async def test_close_while_calls_start_leaves_no_task(open_shop: OpenShop) -> None:
    """Calls that race with `aclose` end, one way or the other."""
    shop = open_shop(Script([replies.prepay()]))
    callers = []
    for number in range(20):
        callers.append(asyncio.create_task(shop.gateway.pay(asking.pay(f"pay-{number}"))))
        await asyncio.sleep(0)
        if number == 10:
            await shop.gateway.aclose()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert {"PayResult", "InDoubtError"} >= {type(result).__name__ for result in results}


async def test_close_stops_the_recovery(open_shop: OpenShop) -> None:
    """No task outlives `async with`."""
    before = asyncio.all_tasks()
    shop = open_shop()
    async with shop.gateway:
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == len(before) + 1

    assert before == asyncio.all_tasks()


# Importing and making


def run_python(code: str) -> Any:  # noqa: ANN401 - JSON
    """Run code in a new process, without warnings; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    return json.loads(done.stdout)


def test_import_loads_no_http_client_and_configures_no_logging() -> None:
    """No driver, and no handler but a NullHandler (lessons 24, 27)."""
    code = """
import json, logging, sys
import wxpay_async
root, ours = logging.getLogger(), logging.getLogger("wxpay_async")
drivers = {"aiohttp", "cryptography", "httpx", "pyreqwest", "redis", "sqlalchemy"}
handlers = [type(handler).__name__ for handler in ours.handlers]
print(json.dumps([list(drivers & set(sys.modules)), len(root.handlers), handlers, ours.level]))
"""
    assert [[], 0, ["NullHandler"], 0] == run_python(code)


def test_making_a_gateway_does_no_io() -> None:
    """No loop, no socket, no thread, no file: nothing that a constructor could leave behind."""
    code = """
import json, sys, threading
from wxpay_async import Md5Signer, PayGateway
seen = []
sys.addaudithook(lambda event, args: seen.append(event))
del seen[:]
PayGateway("k", Md5Signer("s"))
bad = [e for e in seen if e.split(".")[0] in {"socket", "open", "subprocess", "asyncio"}]
print(json.dumps([bad, threading.active_count()]))
"""
    assert [[], 1] == run_python(code)


@pytest.mark.parametrize("name", ["pay", "trade", "refund", "query", "checkout", "resolve"])
def test_operation_has_no_synchronous_twin(name: str) -> None:
    """Every operation is a coroutine function, and there is one of it (lesson 22)."""
    assert inspect.iscoroutinefunction(getattr(PayGateway, name))
    assert not [other for other in dir(PayGateway) if other in {f"{name}_sync", f"a{name}"}]

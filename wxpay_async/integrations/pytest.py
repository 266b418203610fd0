"""The pytest plugin (extra `testing`): a platform, a gateway, callbacks and a clock as fixtures.

pytest loads this module at its start, by the entry point `wxpay`. So it imports nothing besides;
the fixtures do. They are no coroutines: they work in synchronous tests, and in asynchronous ones
under pytest-asyncio (in either mode) or anyio. `-p no:wxpay` switches them off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from Crypto.PublicKey.RSA import RsaKey

    from wxpay_async.engine.environment import GatewayOptions
    from wxpay_async.engine.gateway import PayGateway
    from wxpay_async.integrations.settable_clock import SettableClock
    from wxpay_async.integrations.testing import Callbacks
    from wxpay_async.integrations.threaded_sandbox import ThreadedSandbox


@pytest.fixture
def wxpay_clock() -> SettableClock:
    """The clock of `wxpay_sandbox` and `wxpay_gateway`; it runs, and `move` moves it."""
    from wxpay_async.integrations.settable_clock import (  # noqa: PLC0415 - not at the start
        SettableClock,
    )

    return SettableClock()


@pytest.fixture(scope="session")
def _wxpay_key(pytestconfig: pytest.Config) -> RsaKey:
    """The platform's key. Making one takes seconds, so pytest's cache keeps it for the next run."""
    from wxpay_async.integrations.testing import (  # noqa: PLC0415 - not at the start
        load_key,
        make_key,
    )

    cache = getattr(pytestconfig, "cache", None)  # absent under `-p no:cacheprovider`
    return make_key() if cache is None else load_key(cache.mkdir("wxpay"))


@pytest.fixture
def wxpay_sandbox(wxpay_clock: SettableClock, _wxpay_key: RsaKey) -> Iterator[ThreadedSandbox]:
    """A fresh platform on loopback, without a quota; its callbacks are signed by RSA."""
    from wxpay_async.integrations.threaded_sandbox import (  # noqa: PLC0415 - not at the start
        ThreadedSandbox,
    )

    with ThreadedSandbox(
        pay_key=_wxpay_key, quota=None, clock=wxpay_clock.time, callback_scheme="rsa"
    ) as sandbox:
        yield sandbox


@pytest.fixture
def wxpay_gateway_options() -> GatewayOptions:
    """Keyword arguments of `wxpay_gateway`: override it in a test file or a conftest."""
    return {}


@pytest.fixture
def wxpay_gateway(
    wxpay_sandbox: ThreadedSandbox,
    wxpay_clock: SettableClock,
    wxpay_gateway_options: GatewayOptions,
) -> Iterator[PayGateway]:
    """A gateway to `wxpay_sandbox`: no quota, short pauses between attempts; closed afterwards."""
    from wxpay_async.integrations.testing import make_gateway  # noqa: PLC0415 - not at the start

    options: GatewayOptions = {"clock": wxpay_clock, **wxpay_gateway_options}
    gateway = make_gateway(wxpay_sandbox, **options)
    yield gateway
    wxpay_sandbox.run(gateway.aclose())


@pytest.fixture
def wxpay_callbacks(
    wxpay_sandbox: ThreadedSandbox, wxpay_clock: SettableClock, _wxpay_key: RsaKey
) -> Callbacks:
    """Signed callbacks of `wxpay_sandbox`, genuine and forged, as bytes and headers."""
    from wxpay_async.integrations.testing import Callbacks  # noqa: PLC0415 - not at the start

    return Callbacks(wxpay_sandbox, wxpay_clock, _wxpay_key)

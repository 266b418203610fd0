"""Send a request that fails, and keep what is raised."""

from __future__ import annotations

import pytest

from wxpay_async.errors import WxPayError
from wxpay_async.protocol.wire import HttpRequest, Timeouts, Transport


async def catch_failure(transport: Transport, url: str, timeout: Timeouts) -> WxPayError:
    """Return what a request raises."""
    with pytest.raises(WxPayError) as caught:
        await transport.send(HttpRequest(url, b"a=1"), timeout=timeout)
    return caught.value

"""Explain how a gateway would sign a request, without sending it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from wxpay_async.errors import InvalidRequestError, NotSentError, WxPayError
from wxpay_async.protocol.explain import Explained, Explanation, explain_request
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, TradeQuery
from wxpay_async.protocol.wire import HttpRequest

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

_EXPLAINED: Final = (MiniProgramPay, InstantTrade, Refund, TradeQuery, HttpRequest, Mapping)


async def explain(
    dispatcher: Dispatcher, request: Explained, against: str | bytes | None
) -> Explanation:
    """Explain the signature of a request; see `PayGateway.explain`."""
    if not isinstance(cast("object", request), _EXPLAINED):
        kind = type(request).__name__
        raise InvalidRequestError(f"got {kind}", field="request", allowed="a request")
    failure: WxPayError
    try:
        return await explain_request(
            request,
            builder=dispatcher.builder,
            signer=dispatcher.signing.signer,
            now_ms=dispatcher.time.milliseconds(),
            nonce=secrets.token_hex(16),
            against=against,
        )
    except WxPayError as error:
        failure = error.with_traceback(None)
    except TypeError:  # a mistake in the request
        raise
    except Exception as error:  # noqa: BLE001 - a signer is code of others, see `Call`
        failure = NotSentError(f"the signer raised {type(error).__name__}")
    finally:
        del request, against
    # Raised out here: frames below hold what is signed.
    raise failure

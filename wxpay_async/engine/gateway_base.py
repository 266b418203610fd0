"""Make, open and close a gateway: what `PayGateway` is besides its operations."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self, Unpack

from wxpay_async.adapters.limiters.limiter import Limiter, Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import SealedStore, SealKey, seal_store
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine import environment
from wxpay_async.engine.call_times import check_timeouts
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.dispatcher import PARTS, Dispatcher
from wxpay_async.engine.many import Many
from wxpay_async.engine.mix_up import refuse_mix_up
from wxpay_async.engine.part_checks import check_parts, check_settings
from wxpay_async.engine.status_texts import StatusTexts
from wxpay_async.engine.telemetry import Event, EventKind, Hook, Telemetry
from wxpay_async.errors import InvalidRequestError, RefusedError, WxPayError
from wxpay_async.policy.resolution import check_absent_codes, says_absent
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import Placement, RequestBuilder
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Signer
from wxpay_async.protocol.wire import PRODUCTION, Timeouts, Transport


class GatewayBase:
    """The life of a gateway. `PayGateway` says what its arguments mean."""

    def __init__(  # noqa: PLR0913 - one keyword for each part that can be replaced
        self,
        app_key: str,
        signer: Signer,
        *,
        base_url: str = PRODUCTION,
        allow_insecure: bool = False,
        transport: Transport | None = None,
        store: Store | None = None,
        limiter: Limiter | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        hooks: Sequence[Hook] = (),
        max_in_flight: int = environment.MAX_IN_FLIGHT,
        seal_keys: Sequence[SealKey] | None = None,
        refunds_queryable: bool = False,
        absent_codes: Collection[str] = (),
        trade_states: Mapping[str, TradeState] | None = None,
        placement: Placement = "body",
        clock: Clock | None = None,
    ) -> None:
        given = {"transport": transport, "store": store, "limiter": limiter}
        check_parts({"signer": signer, "clock": clock, **given})
        check_settings(retry=retry, timeouts=timeouts, hooks=hooks, max_in_flight=max_in_flight)
        owned = frozenset(name for name in PARTS if given[name] is None)
        del given
        try:
            store = seal_store(MemoryStore() if store is None else store, signer, seal_keys)
        finally:
            del seal_keys  # a traceback with locals must not show them
        if not app_key:
            raise InvalidRequestError("empty", field="appKey", allowed="a non-empty text")
        self.app_key = app_key
        clock = Clock() if clock is None else clock
        timeouts = check_timeouts(Timeouts() if timeouts is None else timeouts)
        self._dispatcher = Dispatcher(
            app_key=app_key,
            builder=RequestBuilder(
                app_key, signer.sign_type, base_url, placement, allow_insecure=allow_insecure
            ),
            signing=SigningExecutor(signer),
            store=store,
            limiter=(
                LocalLimiter(environment.make_quota(timeouts), on_slowed=self._report_slowed)
                if limiter is None
                else limiter
            ),
            clock=clock,
            telemetry=Telemetry(app_key, tuple(hooks)),
            make_transport=lambda: (
                environment.make_default_transport(max_connections=max_in_flight)
                if transport is None
                else transport
            ),
            retry=RetryPolicy() if retry is None else retry,
            timeouts=timeouts,
            max_in_flight=max_in_flight,
            refunds_queryable=refunds_queryable,
            absent_codes=check_absent_codes(absent_codes),
            texts=StatusTexts({} if trade_states is None else trade_states),
            owned=owned,
        )
        self._many = Many(self._dispatcher)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        **given: Unpack[environment.GatewayOptions],
    ) -> Self:
        """Make a gateway from the environment.

        Reads `WXPAY_APP_KEY`; one of `WXPAY_APP_SECRET`, `WXPAY_APP_SECRET_FILE` (MD5),
        `WXPAY_PRIVATE_KEY` and `WXPAY_PRIVATE_KEY_FILE` (RSA, with `WXPAY_PRIVATE_KEY_PASSPHRASE`);
        `WXPAY_KEY_FILE_MODE=any`, where a secret manager or a mount decides about the modes of
        these files; `WXPAY_BASE_URL`; `WXPAY_ALLOW_INSECURE=1` (plain HTTP beyond loopback);
        `WXPAY_PROXY`; `WXPAY_STORE_URL`; `WXPAY_QUOTA_URL`; `WXPAY_BATCH_SHARE` (how many of the
        400 calls a minute machines may use, 380 by default). Blanks around a value are no part of
        it. What a durable store keeps is sealed by the scheme's secret, unless `WXPAY_SEAL_KEY` has
        a key of its own: 32 bytes as 64 hexadecimal digits or as Base64; several are separated by
        commas, and the first one seals. `WXPAY_FORMER_SECRETS` has the appSecrets of the MD5 scheme
        that were in force before, separated by commas: they open what was sealed by them
        (`rotation.md`).

        The gateway closes the parts that are made so, and none that is given.

        Args:
            environ: read this mapping instead of `os.environ`.
            **given: the constructor's keyword arguments, which win over the environment.

        Raises:
            InvalidRequestError: a variable is missing, stands in quotes or cannot be used, or some
                cannot be used together, as `WXPAY_PROXY` and `transport=`. All that can be found
                at once is told in one error. Or a sandbox's appKey would be sent to the platform.
            InvalidKeyError: the key, or a file with a key or a secret, cannot be used.
        """
        environ = os.environ if environ is None else environ
        settings = environment.Settings(environ)
        try:
            parts = environment.read_parts(settings, given)
            gateway = cls(parts.app_key, parts.signer, **parts.options)
            if given.get("transport") is None:  # one of the caller's own may lead anywhere
                refuse_mix_up(environ, gateway._dispatcher.builder.base_url)
            gateway._dispatcher.owned = frozenset(n for n in PARTS if given.get(n) is None)
            if given.get("limiter") is None:  # one of ours, made before there was a gateway
                limiter: Any = gateway._dispatcher.limiter
                limiter.on_slowed = gateway._report_slowed
        except (WxPayError, ImportError) as error:
            failure = error.with_traceback(None)
        else:
            return gateway
        finally:
            del environ, given
        # Raised out here: frames below hold what the settings do not show.
        raise failure

    def _report_slowed(self, slowed: Slowed) -> None:
        del slowed
        self._dispatcher.telemetry.emit(
            Event(kind=EventKind.SLOWED_DOWN, operation="", app_key=self.app_key)
        )

    def __repr__(self) -> str:
        """Show which gateway it is; it holds no secret, as an address has no password."""
        store = self._dispatcher.store
        kind = type(store.store if isinstance(store, SealedStore) else store).__name__
        address = self._dispatcher.builder.base_url
        return f"{type(self).__name__}({self.app_key!r}, base_url={address!r}, store={kind})"

    @property
    def store(self) -> Store:
        """Where requestIds and callbacks are remembered."""
        return self._dispatcher.store

    @property
    def telemetry(self) -> Telemetry:
        """What tells the hooks."""
        return self._dispatcher.telemetry

    @property
    def min_left(self) -> float:
        """Seconds that a call's `timeout` must have at least: one attempt may need them."""
        return self._dispatcher.retry.min_left

    def says_absent(self, refusal: RefusedError) -> bool:
        """Tell whether the refusal of a query says that the order does not exist."""
        return says_absent(refusal, self._dispatcher.absent_codes)

    async def __aenter__(self) -> Self:
        """Start to look after open operations; connections open with the first request."""
        self._dispatcher.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is under way, record where it stands, and release every connection.

        An iterator of `pay_many` and its like ends, too. A transport, store or limiter that was
        handed in stays open, since others may use it: its owner closes it by its `aclose`.
        """
        await self._many.aclose()
        await self._dispatcher.aclose()

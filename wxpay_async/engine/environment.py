"""What `PayGateway.from_env` reads, and how each address picks its part."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypedDict, TypeVar

from wxpay_async.adapters.limiters.limiter import Limiter, Quota
from wxpay_async.adapters.stores.sealed import SEAL_KEY_BYTES, SealKey
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.telemetry import Hook
from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import Placement
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.signing import Md5Signer, RsaSigner
from wxpay_async.protocol.wire import PRODUCTION, Timeouts, Transport

P = TypeVar("P")

_VARIABLES: Final = (
    "WXPAY_APP_KEY",
    "WXPAY_APP_SECRET",
    "WXPAY_PRIVATE_KEY_FILE",
    "WXPAY_PRIVATE_KEY_PASSPHRASE",
    "WXPAY_BASE_URL",
    "WXPAY_PROXY",
    "WXPAY_STORE_URL",
    "WXPAY_QUOTA_URL",
    "WXPAY_SEAL_KEY",
    "WXPAY_FORMER_SECRETS",
)
_QUOTED: Final = re.compile(r"""\s*(["']).*\1\s*""", re.DOTALL)
_KEY_DIGITS: Final = 2 * SEAL_KEY_BYTES
_SEAL_KEYS: Final = (
    f"{SEAL_KEY_BYTES} bytes as {_KEY_DIGITS} hexadecimal digits or as Base64; several are "
    "separated by commas, and the first one seals"
)
_SECRETS: Final = "former appSecrets of the MD5 scheme, separated by commas"


class GatewayOptions(TypedDict, total=False):
    """The keyword arguments of `PayGateway`, by which `PayGateway.from_env` is typed, too."""

    base_url: str
    transport: Transport | None
    store: Store | None
    limiter: Limiter | None
    retry: RetryPolicy | None
    timeouts: Timeouts | None
    hooks: Sequence[Hook]
    max_in_flight: int
    seal_keys: Sequence[SealKey] | None
    refunds_queryable: bool
    absent_codes: Collection[str]
    trade_states: Mapping[str, TradeState] | None
    placement: Placement
    clock: Clock | None


def read_app_key(env: Mapping[str, str]) -> str:
    """Return `WXPAY_APP_KEY`."""
    app_key = env.get("WXPAY_APP_KEY", "")
    if not app_key:
        raise InvalidRequestError("not set", field="WXPAY_APP_KEY", allowed="the appKey")
    return app_key


def check_quotes(env: Mapping[str, str]) -> None:
    """Refuse values in quotes: files for `docker run --env-file` keep them, a shell does not.

    Raises:
        InvalidRequestError: a variable begins and ends with the same quote.
    """
    quoted = [name for name in _VARIABLES if _QUOTED.fullmatch(env.get(name, ""))]
    del env
    if quoted:
        raise InvalidRequestError("in quotes", field=quoted[0], allowed="the value without quotes")


def read_signer(env: Mapping[str, str]) -> Md5Signer | RsaSigner:
    """Return the signer of the one scheme that is set.

    Raises:
        InvalidRequestError: neither scheme is set, or both.
        InvalidKeyError: the key file cannot be used.
    """
    try:
        # Only whether they are set: what a local holds, a traceback with locals shows.
        by_secret, by_key = (
            bool(env.get("WXPAY_APP_SECRET")),
            bool(env.get("WXPAY_PRIVATE_KEY_FILE")),
        )
        if by_secret == by_key:
            raise InvalidRequestError(
                "both set" if by_secret else "not set",
                field="WXPAY_APP_SECRET",
                allowed="WXPAY_APP_SECRET (MD5) or WXPAY_PRIVATE_KEY_FILE (RSA), one of the two",
            )
        if by_secret:
            return Md5Signer(env["WXPAY_APP_SECRET"])
        return RsaSigner.from_file(
            env["WXPAY_PRIVATE_KEY_FILE"], env.get("WXPAY_PRIVATE_KEY_PASSPHRASE") or None
        )
    finally:
        del env


def read_seal_keys(
    env: Mapping[str, str], signer: Md5Signer | RsaSigner
) -> Sequence[SealKey] | None:
    """Return what seals and opens a durable store, None for the signer's own key.

    The key of `WXPAY_SEAL_KEY` seals; without one, the signer's. The others open only.

    Raises:
        InvalidRequestError: a key or a former secret cannot be used.
    """
    try:
        if not env.get("WXPAY_SEAL_KEY") and not env.get("WXPAY_FORMER_SECRETS"):
            return None
        own = _read_each("WXPAY_SEAL_KEY", env, _read_key, allowed=_SEAL_KEYS)
        former = _read_each("WXPAY_FORMER_SECRETS", env, Md5Signer, allowed=_SECRETS)
    finally:
        del env
    return [*own, signer, *former]


def _read_each(
    variable: str, env: Mapping[str, str], read: Callable[[str], P], *, allowed: str
) -> list[P]:
    """Read each of the texts in a variable; an empty variable has none."""
    try:
        if not env.get(variable):
            return []
        return [read(text) for text in re.split(r"[,\s]+", env[variable].strip(", \t\r\n"))]
    except ValueError:
        failure = InvalidRequestError("cannot be used", field=variable, allowed=allowed)
    finally:
        del env
    # Out here, as in `_make_part`: the frames below hold the secrets.
    raise failure


def _read_key(text: str) -> bytes:
    """Return a key. The decoders name a position where they fail, and never the text."""
    is_hex = len(text) == _KEY_DIGITS
    key = bytes.fromhex(text) if is_hex else base64.b64decode(text, validate=True)
    if len(key) != SEAL_KEY_BYTES:
        raise ValueError("of another length")
    return SecretBytes(key)


def complete_options(
    env: Mapping[str, str], signer: Md5Signer | RsaSigner, given: GatewayOptions
) -> GatewayOptions:
    """Return the constructor's keyword arguments; what is given wins over the environment."""
    options = given.copy()
    if options.get("base_url") is None:
        options["base_url"] = env.get("WXPAY_BASE_URL") or PRODUCTION
    if options.get("seal_keys") is None:
        options["seal_keys"] = read_seal_keys(env, signer)
    if env.get("WXPAY_PROXY") and options.get("transport") is None:
        options["transport"] = make_default_transport(proxy=env["WXPAY_PROXY"])
    if env.get("WXPAY_STORE_URL") and options.get("store") is None:
        from wxpay_async.adapters.stores.from_url import (  # noqa: PLC0415 - only who sets it needs it
            store_from_url,
        )

        options["store"] = _make_part("WXPAY_STORE_URL", env, store_from_url)
    if env.get("WXPAY_QUOTA_URL") and options.get("limiter") is None:
        from wxpay_async.adapters.limiters.redis import RedisLimiter  # noqa: PLC0415 - an extra

        app_key, quota = read_app_key(env), make_quota(options.get("timeouts") or Timeouts())
        options["limiter"] = _make_part(
            "WXPAY_QUOTA_URL", env, lambda url: RedisLimiter(url, app_key, quota=quota)
        )
    return options


def _make_part(variable: str, env: Mapping[str, str], make: Callable[[str], P]) -> P:
    """Make a part from the address in a variable; an error names the variable."""
    try:
        return make(env[variable])
    except InvalidRequestError as error:
        failure = error.called(variable)
    finally:
        del env
    # A new one: the frames below hold the address, and with it perhaps a password.
    raise failure


def make_quota(timeouts: Timeouts) -> Quota:
    """Return the platform's quota for calls that take so long."""
    # A slot's lease must outlast what holds it, or it would free while the request is out: the wait
    # for a connection, then the store, the signer and the attempt, which a claim's lease bounds.
    return Quota(lease=timeouts.call + LEASE)


def make_default_transport(*, proxy: str | None = None, max_connections: int = 64) -> Transport:
    """Make the aiohttp transport; aiohttp is imported here and not by `import wxpay_async`."""
    from wxpay_async.adapters.transports.aiohttp import AiohttpTransport  # noqa: PLC0415

    return AiohttpTransport(proxy=proxy, max_connections=max_connections)

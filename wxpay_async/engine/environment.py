"""Settings that `PayGateway.from_env` reads, and the part that each address picks."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypedDict, TypeVar

from attrs import define, field, frozen

from wxpay_async.adapters.limiters.limiter import Limiter, Quota
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.sealed import SEAL_KEY_BYTES, SealKey
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.telemetry import Hook
from wxpay_async.errors import InvalidKeyError, InvalidRequestError
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import Placement
from wxpay_async.protocol.keys import read_key_file
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.signing import Md5Signer, RsaSigner
from wxpay_async.protocol.wire import PRODUCTION, Timeouts, Transport, check_base_url

P = TypeVar("P")
Problem = InvalidRequestError | InvalidKeyError

MAX_IN_FLIGHT: Final = 64
"""Requests at once, and connections for them, where nothing else is said."""
SCHEMES: Final = (
    *("WXPAY_APP_SECRET", "WXPAY_APP_SECRET_FILE"),
    *("WXPAY_PRIVATE_KEY", "WXPAY_PRIVATE_KEY_FILE"),
)
"""The variables of which one says how the merchant signs."""
_ONE_SCHEME: Final = (
    "one of WXPAY_APP_SECRET and WXPAY_APP_SECRET_FILE (MD5), WXPAY_PRIVATE_KEY and "
    "WXPAY_PRIVATE_KEY_FILE (RSA)"
)
_PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
VARIABLES: Final = (
    "WXPAY_APP_KEY",
    *SCHEMES,
    _PASSPHRASE,
    "WXPAY_KEY_FILE_MODE",
    "WXPAY_BASE_URL",
    "WXPAY_ALLOW_INSECURE",
    "WXPAY_PROXY",
    "WXPAY_STORE_URL",
    "WXPAY_QUOTA_URL",
    "WXPAY_BATCH_SHARE",
    "WXPAY_SEAL_KEY",
    "WXPAY_FORMER_SECRETS",
)
_SWITCH: Final = MappingProxyType({"1": True, "true": True, "0": False, "false": False})
_QUOTED: Final = re.compile(r"""(["']).*\1|\u201c.*\u201d|\u2018.*\u2019""", re.DOTALL)
_KEY_DIGITS: Final = 2 * SEAL_KEY_BYTES
_SEAL_KEYS: Final = (
    f"{SEAL_KEY_BYTES} bytes as {_KEY_DIGITS} hexadecimal digits or as Base64; several are "
    "separated by commas, and the first one seals"
)
_SECRETS: Final = "former appSecrets of the MD5 scheme, separated by commas"


class GatewayOptions(TypedDict, total=False):
    """The keyword arguments of `PayGateway`, by which `PayGateway.from_env` is typed, too."""

    base_url: str
    allow_insecure: bool
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


def _read_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are known, without blanks around them."""
    # A blank can be part of a passphrase; a line break cannot, and in all others neither can.
    return {
        name: environ.get(name, "").strip("\r\n" if name == _PASSPHRASE else None)
        for name in VARIABLES
    }


@define(eq=False)
class Settings:
    """The variables of an environment, and what is wrong with them.

    No `repr` shows a value: some are secrets, and a traceback with locals would show them.

    Attributes:
        problems: what is wrong, so that all of it can be told at once.
    """

    _values: dict[str, str] = field(converter=_read_variables, repr=False)
    problems: list[Problem] = field(init=False, factory=list[Problem])

    def __getitem__(self, variable: str) -> str:
        """Return a variable without blanks around it, empty where it is not set."""
        return self._values[variable]

    def check_quotes(self) -> None:
        """Refuse values in quotes: files for `docker run --env-file` keep them, a shell does not.

        Raises:
            InvalidRequestError: variables begin and end with a quote; nothing else is told then.
        """
        quoted = [name for name, value in self._values.items() if _QUOTED.fullmatch(value)]
        if quoted:
            self.refuse(quoted, "in quotes", allowed="the value without quotes")
            raise self.combine_problems()

    def read(self, variable: str, make: Callable[[str], P]) -> P | None:
        """Return what is made of a variable, None where it is not set or cannot be used."""
        if not self._values[variable]:
            return None
        # New errors: the frames of those that are caught hold the value, which may be a secret.
        try:
            return make(self._values[variable])
        except InvalidRequestError as error:
            self.problems.append(error.called(variable))
        except InvalidKeyError as error:
            self.problems.append(InvalidKeyError(f"{variable}: {_name_variables(error, variable)}"))
        return None

    def read_each(self, variable: str, make: Callable[[str], P], *, allowed: str) -> list[P]:
        """Return what is made of each of the texts in a variable."""

        def make_all(texts: str) -> list[P]:
            try:
                return [make(text) for text in re.split(r"[,\s]+", texts.strip(", \t\r\n"))]
            except ValueError:
                raise InvalidRequestError("cannot be used", allowed=allowed) from None

        return self.read(variable, make_all) or []

    def refuse(self, names: Iterable[str], reason: str, *, allowed: str) -> None:
        """Note that settings are missing, or cannot be used together."""
        problem = InvalidRequestError(reason, field=", ".join(names), allowed=allowed)
        self.problems.append(problem)

    def combine_problems(self) -> Problem:
        """Return the only problem, or one error that tells all of them."""
        if len(self.problems) == 1:
            return self.problems[0]
        texts = [str(problem) for problem in self.problems]
        combined = InvalidRequestError(" | ".join(texts))
        combined.field = ", ".join(text.partition(":")[0] for text in texts)
        return combined


@frozen
class Parts:
    """What a gateway is made of, as the settings say.

    Attributes:
        app_key: the merchant's developer id.
        signer: of the scheme that is set.
        options: the constructor's keyword arguments.
    """

    app_key: str
    signer: Md5Signer | RsaSigner
    options: GatewayOptions = field(repr=False)


def read_parts(settings: Settings, given: GatewayOptions) -> Parts:
    """Read what a gateway is made of; what is given wins over the environment.

    Raises:
        InvalidRequestError: a setting is missing or cannot be used, or some cannot be used
            together; several problems are told in one error.
        InvalidKeyError: the key cannot be used.
        ImportError: a setting needs an extra.
    """
    settings.check_quotes()
    app_key, options = settings["WXPAY_APP_KEY"], given.copy()
    if not app_key:
        settings.refuse(["WXPAY_APP_KEY"], "not set", allowed="the appKey")
    signer = _read_signer(settings)
    own, former = list[bytes](), list[Md5Signer]()
    if options.get("seal_keys") is None:
        own = settings.read_each("WXPAY_SEAL_KEY", _read_key, allowed=_SEAL_KEYS)
        former = settings.read_each("WXPAY_FORMER_SECRETS", _make_md5_signer, allowed=_SECRETS)
    _complete_transport(options, settings)
    _complete_shared(options, settings, app_key)
    if signer is None or settings.problems:
        raise settings.combine_problems()
    if own or former:
        # The key of its own seals; without one, that of the secret in force. The others open only.
        options["seal_keys"] = [*own, signer, *former]
    return Parts(app_key, signer, options)


def _read_signer(settings: Settings) -> Md5Signer | RsaSigner | None:
    """Return the signer of the one scheme that is set, None where there is a problem."""
    any_mode = settings.read("WXPAY_KEY_FILE_MODE", _read_mode) or False
    found = [name for name in SCHEMES if settings[name]]
    if len(found) != 1:
        reason = "set together" if found else "not set"
        settings.refuse(found or SCHEMES, reason, allowed=_ONE_SCHEME)
        return None
    return (
        settings.read("WXPAY_APP_SECRET", _make_md5_signer)
        or settings.read(
            "WXPAY_APP_SECRET_FILE", lambda path: _read_secret_file(path, any_mode=any_mode)
        )
        or settings.read(
            "WXPAY_PRIVATE_KEY", lambda key: RsaSigner.from_pem(key, settings[_PASSPHRASE])
        )
        or settings.read(
            "WXPAY_PRIVATE_KEY_FILE",
            lambda path: RsaSigner.from_file(path, settings[_PASSPHRASE], any_mode=any_mode),
        )
    )


def _read_mode(text: str) -> bool:
    if text != "any":
        raise InvalidRequestError("not known", allowed="any, or not set")
    return True


def _make_md5_signer(secret: str) -> Md5Signer:
    if _QUOTED.fullmatch(secret) or not secret.isprintable():
        raise InvalidRequestError(
            "in quotes, of several lines, or with control characters",
            allowed="the appSecret and nothing else",
        )
    return Md5Signer(secret)


def _read_secret_file(path: str, *, any_mode: bool) -> Md5Signer:
    try:
        data = read_key_file(path, private=True, any_mode=any_mode)
    except InvalidKeyError as error:
        # It may be the secret itself that was taken for a path.
        raise InvalidKeyError(error.reason.removeprefix(f"{path}: ")) from None
    return _make_md5_signer(data.decode("utf-8-sig", "replace").strip())


def _name_variables(error: InvalidKeyError, variable: str) -> str:
    """Return the reason of an error with variables in place of the signers' functions."""
    direct = variable.removesuffix("_FILE")
    return error.reason.replace("from_pem()", direct).replace("from_file()", f"{direct}_FILE")


def _read_key(text: str) -> bytes:
    """Return a key. The decoders name a position where they fail, and never the text."""
    is_hex = len(text) == _KEY_DIGITS
    key = bytes.fromhex(text) if is_hex else base64.b64decode(text, validate=True)
    if len(key) != SEAL_KEY_BYTES:
        raise ValueError("of another length")
    return SecretBytes(key)


def _complete_transport(options: GatewayOptions, settings: Settings) -> None:
    """Add where requests go, and through what."""
    insecure = options.get("allow_insecure")
    if insecure is None:
        insecure = settings.read("WXPAY_ALLOW_INSECURE", _read_switch) or False
        options["allow_insecure"] = insecure
    if options.get("base_url") is None:
        check = functools.partial(check_base_url, allow_insecure=insecure)
        options["base_url"] = settings.read("WXPAY_BASE_URL", check) or PRODUCTION
    if options.get("transport") is None:
        # Fewer than one is refused by the constructor.
        connections = max(1, options.get("max_in_flight", MAX_IN_FLIGHT))
        options["transport"] = settings.read(
            "WXPAY_PROXY",
            lambda url: make_default_transport(proxy=url, max_connections=connections),
        )
    elif settings["WXPAY_PROXY"]:
        names = "WXPAY_PROXY", "transport"
        settings.refuse(names, "set together", allowed="one of the two: a transport has its proxy=")


def _read_switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise InvalidRequestError("not known", allowed=f"one of {', '.join(_SWITCH)}")
    return _SWITCH[text.lower()]


def _complete_shared(options: GatewayOptions, settings: Settings, app_key: str) -> None:
    """Add what processes may share: the store and the quota."""
    if settings["WXPAY_STORE_URL"] and options.get("store") is None:
        from wxpay_async.adapters.stores.from_url import (  # noqa: PLC0415 - only who sets it needs it
            store_from_url,
        )

        options["store"] = settings.read("WXPAY_STORE_URL", store_from_url)
    if options.get("limiter") is None:
        _complete_limiter(options, settings, app_key)


def _complete_limiter(options: GatewayOptions, settings: Settings, app_key: str) -> None:
    timeouts = options.get("timeouts") or Timeouts()
    named = settings["WXPAY_BATCH_SHARE"]
    share = settings.read("WXPAY_BATCH_SHARE", _read_share) if named else None
    quota = make_quota(timeouts, batch=share)
    if settings["WXPAY_QUOTA_URL"]:
        from wxpay_async.adapters.limiters.redis import RedisLimiter  # noqa: PLC0415 - an extra

        options["limiter"] = settings.read(
            "WXPAY_QUOTA_URL", lambda url: RedisLimiter(url, app_key, quota=quota)
        )
    elif share is not None:
        options["limiter"] = LocalLimiter(quota)


def _read_share(text: str) -> int:
    most = Quota().limit
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise InvalidRequestError("no number of calls", allowed=f"1 to {most}")
    return int(text)


def make_quota(timeouts: Timeouts, *, batch: int | None = None) -> Quota:
    """Return the platform's quota for calls that take so long.

    Args:
        timeouts: of the gateway.
        batch: how many of the calls machines may use, 95 % by default.
    """
    # A slot's lease must outlast what holds it, or it would free while the request is out: the wait
    # for a connection, then the store, the signer and the attempt, which a claim's lease bounds.
    lease = timeouts.call + LEASE
    return Quota(lease=lease) if batch is None else Quota(lease=lease, batch=batch)


def make_default_transport(*, proxy: str | None = None, max_connections: int) -> Transport:
    """Make the aiohttp transport; aiohttp is imported here and not by `import wxpay_async`."""
    from wxpay_async.adapters.transports.aiohttp import AiohttpTransport  # noqa: PLC0415

    return AiohttpTransport(proxy=proxy, max_connections=max_connections)

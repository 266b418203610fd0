"""Check each call before its business: envelope, appKey, signature, time, nonce and quota.

The order, as far as the platform's documentation gives one:

1. method, media type, the four envelope parameters;
2. the appKey exists and is valid, and the call comes from an allowed address;
3. the signature, by the scheme that `signType` names;
4. the timestamp, at most 5 minutes from now, or only not older than that (`App.future_refused`);
5. the nonce, which this appKey has not used while its timestamp was acceptable;
6. the quota. A call counts when it arrives; a call that is refused for the quota does not count.

The canonical string is not shared with the client's side, which also refuses ambiguous values. The
sandbox applies the published rule and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from attrs import Attribute, define, field, frozen

from wxpay_async.errors import InvalidRequestError, NotificationError
from wxpay_async.protocol.signing import Md5Verifier, RsaVerifier, Verifier
from wxpay_async.protocol.wire import is_loopback
from wxpay_async.sandbox.error_codes import Code, MalformedError, RefusalError, ReplayedError

Scheme = Literal["md5", "rsa"]
"""How a message is signed."""

MAX_AGE_MS: Final = 300_000
"""Milliseconds for which a request is valid after its timestamp."""

_ENVELOPE: Final = ("appKey", "nonce", "timestamp", "sign")
_FORM: Final = "application/x-www-form-urlencoded"
_CHARSETS: Final = ("", "charset=utf-8", 'charset="utf-8"')
_MAX_FIELDS: Final = 64
_MAX_NONCE: Final = 32
_MAX_TIMESTAMP: Final = 15


@frozen(kw_only=True)
class IncomingRequest:
    """One HTTP request as it arrived, not checked yet.

    Attributes:
        method: the HTTP method, upper case.
        path: the path, without the query string.
        query: the raw query string.
        body: the raw body.
        content_type: the header of that name, empty when there is none.
        address: the caller's IP address.
    """

    method: str = "POST"
    path: str
    query: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str = ""
    address: str = "127.0.0.1"


def _check_notify_url(app: App, attribute: Attribute[Any], url: str | None) -> None:
    del attribute
    if url is None:
        return
    allowed = "an http(s) address" if app.notify_remote else "an http(s) address on loopback"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not (app.notify_remote or is_loopback(url)):
        raise InvalidRequestError(
            "no address for callbacks of a sandbox", field="notify_url", allowed=allowed
        )


@define(kw_only=True, eq=False)
class App:
    """One merchant's appKey.

    Attributes:
        app_key: the developer id.
        app_secret: the secret of the MD5 scheme.
        rsa: verifies the RSA scheme; None while the merchant has registered no public key.
        quota: calls in any window, None for no limit.
        quota_window: seconds.
        valid: set it to False to get CO_MSG_000008.
        future_refused: whether a timestamp in the future is refused too. Only the refusal of old
            ones is documented.
        addresses: the allow-list, None for any address; set an empty one to get CO_MSG_0000017.
        callback_scheme: how its callbacks are signed; None for RSA if it has registered a public
            key, else MD5.
        notify_remote: whether its callbacks may go to another machine.
        notify_url: where its callbacks go, None for no callbacks.

    Raises:
        InvalidRequestError: `notify_url` is not an address, or is another machine's; also when it
            is set later.
    """

    app_key: str
    app_secret: str = field(repr=False)
    rsa: RsaVerifier | None = None
    quota: int | None = 400
    quota_window: float = 60.0
    valid: bool = True
    future_refused: bool = True
    addresses: Collection[str] | None = None
    callback_scheme: Scheme | None = None
    notify_remote: bool = False
    notify_url: str | None = field(default=None, validator=_check_notify_url)
    _md5: Md5Verifier = field(init=False, repr=False)
    _nonces: set[str] = field(init=False, factory=set[str], repr=False)
    _nonce_log: deque[tuple[int, str]] = field(
        init=False, factory=deque[tuple[int, str]], repr=False
    )
    _arrivals: deque[float] = field(init=False, factory=deque[float], repr=False)

    def __attrs_post_init__(self) -> None:
        self._md5 = Md5Verifier(self.app_secret)

    def change_secret(self, app_secret: str) -> None:
        """Take another secret: what the former one signed is refused from now on."""
        self.app_secret, self._md5 = app_secret, Md5Verifier(app_secret)

    @property
    def notify_scheme(self) -> Scheme:
        """How its callbacks are signed."""
        return self.callback_scheme or ("md5" if self.rsa is None else "rsa")

    def admit(self, params: Mapping[str, str], *, address: str, now: float) -> None:
        """Let a call in, or refuse it.

        Args:
            params: all parameters of the request.
            address: where it comes from.
            now: seconds since the epoch.

        Raises:
            RefusalError: from the first check that fails.
        """
        self._check_access(address)
        self._check_signature(params)
        self._check_freshness(params["timestamp"], params["nonce"], now_ms=round(now * 1000))
        self._take_slot(now)

    def _check_access(self, address: str) -> None:
        if not self.valid:
            raise RefusalError(Code.APP_INVALID)
        if self.addresses is not None and address not in self.addresses:
            raise RefusalError(Code.ADDRESS, address)

    def _check_signature(self, params: Mapping[str, str]) -> None:
        verifier = self._choose_verifier(params.get("signType", ""))
        try:
            verifier.verify(canonical_bytes(params), params["sign"])
        except NotificationError as error:
            raise RefusalError(Code.BAD_SIGNATURE, str(error)) from error

    def _choose_verifier(self, sign_type: str) -> Verifier:
        if not sign_type:
            return self._md5
        if sign_type != "RSA":
            raise RefusalError(Code.BAD_SIGNATURE, "signType is RSA, or absent for MD5")
        if self.rsa is None:
            raise RefusalError(Code.BAD_SIGNATURE, "no public key is registered for the appKey")
        return self.rsa

    def _check_freshness(self, timestamp: str, nonce: str, *, now_ms: int) -> None:
        if len(timestamp) > _MAX_TIMESTAMP or not (timestamp.isascii() and timestamp.isdigit()):
            raise MalformedError("timestamp", "is not milliseconds since the epoch")
        sent_ms = int(timestamp)
        if now_ms - sent_ms > MAX_AGE_MS or (self.future_refused and sent_ms - now_ms > MAX_AGE_MS):
            raise RefusalError(Code.EXPIRED, f"timestamp is {now_ms - sent_ms} ms old")
        # A request whose timestamp has expired is refused anyway, so its nonce can be forgotten.
        while self._nonce_log and self._nonce_log[0][0] < now_ms - MAX_AGE_MS:
            self._nonces.discard(self._nonce_log.popleft()[1])
        if nonce in self._nonces:
            raise ReplayedError
        self._nonces.add(nonce)
        self._nonce_log.append((sent_ms, nonce))

    def _take_slot(self, now: float) -> None:
        if self.quota is None:
            return
        while self._arrivals and self._arrivals[0] <= now - self.quota_window:
            self._arrivals.popleft()
        if len(self._arrivals) >= self.quota:
            raise RefusalError(
                Code.RATE_EXCEEDED, f"over {self.quota} calls in {self.quota_window:g} s"
            )
        self._arrivals.append(now)


def read_params(request: IncomingRequest) -> dict[str, str]:
    """Read the parameters of an API call from its form body and its query string.

    Raises:
        RefusalError: wrong method or media type, or an envelope parameter is missing or too long.
    """
    if request.method != "POST":
        raise RefusalError(Code.METHOD, request.method)
    if request.body and not _is_form(request.content_type):
        raise RefusalError(Code.MEDIA_TYPE, request.content_type)
    params = read_pairs(request)
    for name in _ENVELOPE:
        if not params.get(name):
            raise MalformedError(name, "is missing or empty")
    if len(params["nonce"]) > _MAX_NONCE:
        raise MalformedError("nonce", f"has over {_MAX_NONCE} characters")
    return params


def read_pairs(request: IncomingRequest) -> dict[str, str]:
    """Read name=value pairs from the query string and the body: UTF-8, no name twice.

    Raises:
        RefusalError: they have another form.
    """
    try:
        pairs = _parse_pairs(request.query) + _parse_pairs(request.body.decode("utf-8"))
    except ValueError as error:
        raise RefusalError(Code.MALFORMED, "not name=value pairs in UTF-8") from error
    params = dict(pairs)
    if len(params) < len(pairs):
        raise RefusalError(Code.MALFORMED, "a parameter appears twice")
    return params


def canonical_bytes(params: Mapping[str, str]) -> bytes:
    """Return what both schemes sign: raw non-empty parameters except `sign`, sorted by name."""
    names = sorted(name for name, value in params.items() if value and name != "sign")
    return "&".join(f"{name}={params[name]}" for name in names).encode()


def _parse_pairs(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    return parse_qsl(
        text,
        keep_blank_values=True,
        strict_parsing=True,
        errors="strict",
        max_num_fields=_MAX_FIELDS,
    )


def _is_form(content_type: str) -> bool:
    kind, _, options = content_type.lower().partition(";")
    return kind.strip() == _FORM and options.strip() in _CHARSETS

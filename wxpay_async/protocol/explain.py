"""Explain the signature of a request: what is signed, in which order, and why another one differs.

An explanation can be shown and kept: it holds no secret, no key and no credential of a payer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isawaitable
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import secrets
from wxpay_async.protocol.builder import (
    OPERATIONS,
    QUERY,
    RequestBuilder,
    parameters,
    query_parameters,
)
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.explain_causes import Cause, Dropped, Verdict
from wxpay_async.protocol.explain_schemes import (
    Finding,
    Probe,
    Scheme,
    is_plausible,
    judge_length,
    make_probe,
    read_signature,
)
from wxpay_async.protocol.explain_texts import (
    MASK,
    Difference,
    find_causes,
    find_difference,
    mask_text,
    shorten_masks,
    split_pairs,
)
from wxpay_async.protocol.explain_variants import JSON_PARAMETER, Recipe, Variant, write_variants
from wxpay_async.protocol.requests import Request, TradeQuery
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, RsaVerifier, Signer
from wxpay_async.protocol.wire import HttpRequest

Explained = Request | TradeQuery | HttpRequest | Mapping[str, str]
"""What can be explained: a request, one as it was sent, or all its parameters."""

_PAIR: Final = re.compile(r"[A-Za-z0-9_.\-]+=[^=\s]", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{10}", re.ASCII)
_MOMENT: Final = re.compile(r"[0-9]{10}(?:[0-9]{3})?", re.ASCII)
_MILLISECONDS: Final = 13


@attrs.frozen(kw_only=True)
class Parameter:
    """One parameter of the call.

    Attributes:
        name: its name.
        value: its value, credentials as `***`.
        dropped: why it is not signed; None where it is.
    """

    name: str
    value: str
    dropped: Dropped | None


@attrs.frozen(kw_only=True)
class Comparison:
    """What comparing with a text of the other side found.

    Attributes:
        kind: what the text was taken for.
        verdict: whether it matches, differs for a known cause, or for an unknown one.
        causes: what is wrong with it, as far as it is known.
        difference: where the string that was signed begins to differ, as far as it is known.
    """

    kind: Literal["canonical string", "signature"]
    verdict: Verdict
    causes: tuple[Cause, ...]
    difference: Difference | None


@attrs.frozen(kw_only=True)
class Explanation:
    """How a signature comes about.

    Attributes:
        path: of the endpoint, which is not signed; empty where it is not known.
        scheme: MD5 or RSA.
        parameters: those that are signed in their order, then those that are dropped.
        canonical: the canonical string, credentials as `***`.
        size: the bytes of the true one.
        digest_input: what is hashed, the secret as `***`.
        digest: in hexadecimal: of MD5, or of SHA-256, which RSA signs.
        signature: the right one; None where only a public key is there. Not in the `repr`, nor is
            the digest, which is the same by MD5.
        notes: what is wrong with the request itself.
        comparison: with a text of the other side, where one was given.
    """

    path: str
    scheme: Scheme
    parameters: tuple[Parameter, ...]
    canonical: str
    size: int
    digest_input: str
    digest: str = attrs.field(repr=False)
    signature: str | None = attrs.field(repr=secrets.hide)
    notes: tuple[Cause, ...]
    comparison: Comparison | None


async def explain_request(
    request: Explained,
    *,
    builder: RequestBuilder,
    signer: Signer,
    now_ms: int,
    nonce: str,
    against: str | bytes | None = None,
) -> Explanation:
    """Explain the signature of a request, for a signer of any kind.

    Args:
        request: what to explain. Parameters that each attempt has of its own (`nonce`, `timestamp`)
            are taken from it, else from the canonical string in `against`, else from below.
        builder: the gateway's.
        signer: the gateway's.
        now_ms: milliseconds since the epoch.
        nonce: for an attempt of its own.
        against: a canonical string or a signature that another side computed.

    Raises:
        InvalidRequestError: a parameter makes the string ambiguous, or a signature is to be
            compared and the request does not say under which nonce and timestamp it was made.
    """
    path, params = lay_out(request, builder, now_ms=now_ms, nonce=nonce, against=against)
    made = signer.sign(canonical_string(params).encode())
    signature = await made if isawaitable(made) else made
    return _explain(params, signer, path=path, signature=signature, against=against)


def explain(
    params: Mapping[str, str],
    key: Md5Signer | RsaSigner | RsaVerifier,
    *,
    path: str = "",
    against: str | bytes | None = None,
    others: Sequence[Md5Signer | RsaSigner | RsaVerifier] = (),
) -> Explanation:
    """Explain the signature of a call.

    Args:
        params: every parameter of the call; with its `sign`, that is what is compared by default.
        key: signs, or, with a public key alone, can only tell what others signed.
        path: of the endpoint.
        against: a canonical string or a signature that another side computed.
        others: secrets and keys that the other side may have used by mistake.

    Raises:
        InvalidRequestError: a parameter makes the string ambiguous, or has no UTF-8 form.
        TypeError: a parameter is no text.
    """
    message = canonical_string(params).encode()
    signature = None if isinstance(key, RsaVerifier) else key.sign(message)
    return _explain(params, key, path=path, signature=signature, against=against, others=others)


def lay_out(
    request: Explained,
    builder: RequestBuilder,
    *,
    now_ms: int,
    nonce: str,
    against: str | bytes | None = None,
) -> tuple[str, dict[str, str]]:
    """Return the path and every parameter of a request; see `explain_request`.

    Raises:
        InvalidRequestError: a signature is to be compared and nonce or timestamp are not known.
    """
    path, params = _read_request(request)
    params.setdefault("appKey", builder.app_key)
    if builder.sign_type:
        params.setdefault("signType", builder.sign_type)
    text = _decode(against) or params.get("sign") or None
    if text is not None and not {"nonce", "timestamp"} <= params.keys():
        if not _is_canonical(text):
            raise InvalidRequestError(
                "not known, and a signature can be compared only under its own",
                field="nonce, timestamp",
                allowed="those of the request that was signed, or all its parameters",
            )
        _adopt_own(params, text)
    params.setdefault("nonce", nonce)
    params.setdefault("timestamp", str(now_ms))
    return path, params


def _read_request(request: Explained) -> tuple[str, dict[str, str]]:
    if isinstance(request, HttpRequest):
        place = urlsplit(request.url)
        form = request.body.decode() or place.query
        return place.path, dict(parse_qsl(form, keep_blank_values=True))
    if isinstance(request, Mapping):
        return "", dict(request)
    if isinstance(request, TradeQuery):
        return QUERY.path, query_parameters(request)
    return OPERATIONS[type(request)].path, parameters(request)


def _adopt_own(params: dict[str, str], text: str) -> None:
    """Take nonce and timestamp from the other side's string: they differ with each attempt."""
    found = dict(split_pairs(text))
    if found.get("nonce", "").isalnum():
        params.setdefault("nonce", found["nonce"])
    moment = _MOMENT.match(found.get("timestamp", ""))
    if moment:
        params.setdefault("timestamp", moment[0].ljust(_MILLISECONDS, "0"))


def _decode(against: str | bytes | None) -> str | None:
    if isinstance(against, str):
        against = against.encode("utf-8", "surrogatepass")
    return against if against is None else against.decode("utf-8", "surrogateescape")


def _is_canonical(text: str) -> bool:
    """Tell whether a text is a canonical string; else it is a signature."""
    text = unquote(text).strip().removeprefix("sign=")
    return bool(_PAIR.match(text)) or "&" in text or text.startswith("{")


def _explain(
    params: Mapping[str, str],
    key: object,
    *,
    path: str,
    signature: str | None,
    against: str | bytes | None,
    others: Iterable[object] = (),
) -> Explanation:
    message = canonical_string(params).encode()
    scheme: Scheme = "MD5" if getattr(key, "sign_type", "RSA") is None else "RSA"
    shown = shorten_masks(mask_text(message.decode(), params))
    text = _decode(against) or params.get("sign") or None
    is_md5 = scheme == "MD5"
    return Explanation(
        path=path,
        scheme=scheme,
        parameters=tuple(_list_parameters(params)),
        canonical=shown,
        size=len(message),
        digest_input=f"{shown}&appSecret=***" if is_md5 else shown,
        digest=(signature or "").lower() if is_md5 else hashlib.sha256(message).hexdigest(),
        signature=signature,
        notes=_judge_request(params),
        comparison=None
        if text is None
        else _Comparer(
            params=params,
            message=message,
            scheme=scheme,
            signature=signature,
            probe=make_probe(key, others),
        ).compare(text),
    )


def _list_parameters(params: Mapping[str, str]) -> list[Parameter]:
    """List the parameters, the dropped ones last."""
    found = [
        Parameter(name=name, value=_show(name, value), dropped=_find_reason(name, value))
        for name, value in sorted(params.items())
    ]
    return sorted(found, key=lambda each: each.dropped is not None)


def _show(name: str, value: str) -> str:
    return shorten_masks(mask_text(f"{name}={value}", {name: value})).partition("=")[2]


def _find_reason(name: str, value: str) -> Dropped | None:
    if name == "sign":
        return Dropped.SIGN
    return None if value else Dropped.EMPTY


def _judge_request(params: Mapping[str, str]) -> tuple[Cause, ...]:
    seconds = _SECONDS.fullmatch(params.get("timestamp", ""))
    return (Cause.TIMESTAMP_SECONDS,) if seconds else ()


@attrs.frozen(kw_only=True)
class _Comparer:
    """Compares one call with what another side computed for it."""

    params: Mapping[str, str] = attrs.field(repr=False)
    message: bytes = attrs.field(repr=False)
    scheme: Scheme
    signature: str | None
    probe: Probe | None

    def compare(self, text: str) -> Comparison:
        """Compare with a canonical string or a signature."""
        if _is_canonical(text):
            return self._compare_canonical(text)
        return self._compare_signature(text)

    def _write_variants(self) -> Iterator[Variant]:
        signs = dict.fromkeys((self.params.get("sign"), self.signature))
        return write_variants(self.params, [each for each in signs if each])

    def _compare_canonical(self, text: str) -> Comparison:
        if text.lstrip().startswith("{"):  # bizContent alone
            text = Recipe().write({**self.params, JSON_PARAMETER: text}).decode()
        theirs = text.encode("utf-8", "surrogateescape")
        found = self._find_text(theirs)
        causes = found.causes if found else self._judge(text)
        matches = found is not None and not causes
        verdict = Verdict.EXPLAINED if causes else Verdict.UNKNOWN
        return Comparison(
            kind="canonical string",
            verdict=Verdict.MATCHES if matches else verdict,
            causes=causes,
            difference=None if matches else self._find_difference(theirs),
        )

    def _find_text(self, theirs: bytes) -> Finding | None:
        variants = self._write_variants()
        same = next((each for each in variants if each.message == theirs), None)
        if same is not None:
            return Finding(same.causes, same)
        return self.probe.find_text(theirs, self._write_variants) if self.probe else None

    def _judge(self, text: str) -> tuple[Cause, ...]:
        if self.probe:
            text = self.probe.hide_secret(text, MASK)
        causes = find_causes(self.params, text)
        if self.scheme == "RSA":  # which has no secret
            secret = {Cause.WRONG_SECRET, Cause.SECRET_PLACED}
            causes = [Cause.WRONG_SCHEME if cause in secret else cause for cause in causes]
        return tuple(causes)

    def _compare_signature(self, text: str) -> Comparison:
        written = read_signature(text, self.scheme)
        found = self._find_maker(written.raw)
        spelling = written.causes if found or is_plausible(written.raw, self.scheme) else ()
        causes = (*spelling, *(found.causes if found else ()))
        return Comparison(
            kind="signature",
            verdict=_judge_finding(found, causes),
            causes=causes,
            difference=self._find_difference(found.variant.message)
            if found and found.variant
            else None,
        )

    def _find_maker(self, raw: bytes) -> Finding | None:
        """Return how a signature was made, or what its length proves; None if neither is known."""
        if self.signature and raw == read_signature(self.signature, self.scheme).raw:
            return Finding(())
        found = self.probe.find(raw, self._write_variants) if self.probe else None
        cause = judge_length(raw, self.scheme)
        return found or (Finding((cause,)) if cause else None)

    def _find_difference(self, theirs: bytes) -> Difference | None:
        hide = self.probe.hide_secret if self.probe else _hide_nothing
        return find_difference(self.message, theirs, self.params, hide=hide)


def _hide_nothing(text: str, mask: str) -> str:
    del mask
    return text


def _judge_finding(found: Finding | None, causes: tuple[Cause, ...]) -> Verdict:
    if found is None or found.causes == (Cause.OTHER_TEXT,):
        return Verdict.UNKNOWN
    return Verdict.EXPLAINED if causes else Verdict.MATCHES

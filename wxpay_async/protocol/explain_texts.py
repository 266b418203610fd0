"""Compare two canonical strings, and show them without secrets and credentials.

Masks are as long as what they hide, so that positions stay; when a text is shown, each becomes
`***`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, cast
from urllib.parse import unquote, unquote_plus

import attrs

from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.explain_variants import CHARSETS, JSON_PARAMETER
from wxpay_async.protocol.strict_json import strict_json

Pair = tuple[str, str]

SECRET_NAMES: Final = frozenset(
    {"appSecret", "appsecret", "AppSecret", "app_secret", "secret", "key"}
)
"""Under which names other code signs the secret."""
_KNOWN_NAMES: Final = frozenset({"appKey", "bizContent", "nonce", "timestamp", "sign", "signType"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]+", re.ASCII)
_NEXT_PAIR: Final = re.compile(r"&(?=[A-Za-z0-9_.\-]+=)", re.ASCII)
_JSON: Final = json.JSONDecoder()
_QUOTE: Final = r"(?:\\*[\"']|%(?:25)*2[27]|\\u002[27])"
_BLANK: Final = r"(?:\s|\+|%(?:25)*20)*"
_COLON: Final = r"(?:[:=]|%(?:25)*3[AD])"
_CREDENTIAL: Final = re.compile(
    rf"(?P<name>(?:payToken|terminalPayerId|open_?Id|buyerId){_QUOTE}?{_BLANK}{_COLON}{_BLANK})"
    rf"(?P<value>{_QUOTE}(?:(?!{_QUOTE}).)*|[^,}}&\s]+)",
    re.IGNORECASE | re.DOTALL,
)
"""A payer's credential in JSON, quoted or not, or in what other code writes in its place."""
CREDENTIAL_NAMES: Final = frozenset({"payToken", "terminalPayerId", "openId", "buyerId"})
MASK: Final = "\0"  # no text holds it
_SECRET_AT_END: Final = re.compile(f"&appSecret={MASK}+\\Z")
_SHOWN: Final = 28
_FIRST_QUOTE: Final = re.compile(_QUOTE, re.IGNORECASE)
_TO_DIGITS: Final = re.compile(r"[^0-9]|(?<=[0-9]{13}).", re.ASCII | re.DOTALL)
_SECONDS: Final = re.compile(r"[0-9]{10}", re.ASCII)
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_ABSENT: Final = ("", "null", "None", "undefined")


@attrs.frozen(kw_only=True)
class Difference:
    """Where two strings begin to differ; what is secret in them is `***`.

    Attributes:
        offset: how many bytes are the same.
        parameter: in whose value or name it is; empty at the end of the canonical string.
        before: the end of what is the same.
        ours: how the canonical string goes on; empty if it ends here.
        theirs: how the other string goes on; empty if it ends here.
    """

    offset: int
    parameter: str
    before: str
    ours: str
    theirs: str


def split_pairs(text: str) -> list[Pair]:
    """Split a string into names and values; the value of bizContent may hold & and =."""
    pairs = list[Pair]()
    while text:
        name, _, text = text.partition("=")
        end = _find_json_end(text) if name == JSON_PARAMETER else 0
        following = _NEXT_PAIR.search(text, end)
        value = text[: following.start()] if following else text
        pairs.append((name, value))
        text = text[following.end() :] if following else ""
    return pairs


def _find_json_end(text: str) -> int:
    try:
        return _JSON.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 1 + max(text.rfind(end) for end in '}]"')  # cut short, it ends about there


def mask_text(text: str, params: Mapping[str, str]) -> str:
    """Replace what must not be shown by a mask of the same length.

    Args:
        text: a canonical string, or what another side takes for one.
        params: what is known; other names, and what has no name, may be a secret.
    """
    pairs = split_pairs(text)
    masked = [_mask_pair(name, value, params) for name, value in pairs[:-1]]
    for name, value in pairs[-1:]:
        known = value if name == "timestamp" else params.get(name, value)
        same = _count_same(known, value)  # beyond it a secret may follow
        masked.append(_mask_pair(name, value[:same], params) + MASK * (len(value) - same))
    return "&".join(masked)[: len(text)]


def _mask_pair(name: str, value: str, params: Mapping[str, str]) -> str:
    if name in SECRET_NAMES or name in CREDENTIAL_NAMES:
        return f"{name}={MASK * len(value)}"
    if name not in _KNOWN_NAMES and name not in params:
        return MASK * len(f"{name}={value}")
    if name == "timestamp":
        return f"{name}={_TO_DIGITS.sub(MASK, value)}"
    return f"{name}={_CREDENTIAL.sub(_mask_credential, value)}"


def _mask_credential(found: re.Match[str]) -> str:
    """Mask a credential, but not the quote before it, by which both sides may differ."""
    quote = _FIRST_QUOTE.match(found["value"])
    kept = quote[0] if quote else ""
    return found["name"] + kept + MASK * (len(found["value"]) - len(kept))


def shorten_masks(text: str) -> str:
    """Show every mask as `***`, which does not tell its length."""
    return re.sub(f"{MASK}+", "***", text)


def find_difference(
    ours: bytes, theirs: bytes, params: Mapping[str, str], *, hide: Callable[[str, str], str]
) -> Difference | None:
    """Return where two strings begin to differ, None if they are the same.

    Args:
        ours: the canonical string.
        theirs: the other one.
        params: every parameter of the call.
        hide: replaces each character of the secret in a text by the mask.
    """
    if ours == theirs:
        return None
    offset = _count_same(ours, theirs)
    same = ours[:offset].decode("utf-8", "ignore")  # without the half of a character
    mine = mask_text(ours.decode(), params)
    other = mask_text(hide(theirs.decode("utf-8", "replace"), MASK), params)
    at = len(same)
    return Difference(
        offset=offset,
        parameter=_find_parameter(ours.decode(), at),
        before=_cut_end(shorten_masks(mine[:at])),
        ours=_cut(shorten_masks(mine[at:])),
        theirs=_cut(shorten_masks(other[at:])),
    )


def _count_same(first: str | bytes, second: str | bytes) -> int:
    """Return how long the beginning is that both have in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def _find_parameter(text: str, place: int) -> str:
    start = 0
    for name, value in split_pairs(text):
        start += len(f"{name}={value}&")
        if place < start - 1:
            return name
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "\N{HORIZONTAL ELLIPSIS}"


def _cut_end(text: str) -> str:
    return text if len(text) <= _SHOWN else "\N{HORIZONTAL ELLIPSIS}" + text[-_SHOWN:]


def find_causes(params: Mapping[str, str], theirs: str) -> list[Cause]:
    """Find what is wrong with another canonical string, parameter by parameter.

    Args:
        params: every parameter of the call.
        theirs: the other string, UTF-8 or what is left of another charset; the right secret in it
            is masked.

    Returns:
        The causes; empty if it has no parameter of the call.
    """
    causes = list[Cause]()
    if _ENCODED.search(theirs) and "=" not in theirs:
        theirs = unquote(theirs)
        causes.append(Cause.URL_ENCODED)
    theirs = _SECRET_AT_END.sub("", theirs)
    if MASK in theirs:
        theirs = theirs.replace(MASK, "")
        causes.append(Cause.SECRET_PLACED)
    signed = {name: value for name, value in params.items() if value and name != "sign"}
    pairs = split_pairs(theirs)
    found = dict(pairs)
    if not signed.keys() & found.keys():
        return []
    for name in (*signed, *(name for name in found if name not in signed)):
        if name not in found:
            causes += [_judge_missing(name, signed[name])]
        elif name not in signed:
            causes += [_judge_additional(name, found[name])]
        elif signed[name] != found[name]:
            causes += _judge_value(name, signed[name], found[name])
    names = [name for name, _ in pairs if name not in SECRET_NAMES]
    if names != sorted(names):
        causes.append(Cause.NOT_SORTED)
    return list(dict.fromkeys(causes))


def _judge_missing(name: str, value: str) -> Cause:
    if name == "signType":
        return Cause.SIGN_TYPE
    return Cause.ZERO_DROPPED if value == "0" else Cause.OTHER_PARAMETERS


def _judge_additional(name: str, value: str) -> Cause:
    if name in SECRET_NAMES:
        return Cause.WRONG_SECRET if name == "appSecret" else Cause.SECRET_PLACED
    known = {"sign": Cause.SIGN_INCLUDED, "signType": Cause.SIGN_TYPE}
    if name in known:
        return known[name]
    return Cause.EMPTY_KEPT if value in _ABSENT else Cause.OTHER_PARAMETERS


def _judge_value(name: str, ours: str, theirs: str) -> list[Cause]:
    for plain in (unquote(theirs), unquote_plus(theirs)):
        if _ENCODED.search(theirs) and plain != theirs:
            rest = [] if plain == ours else _judge_value(name, ours, plain)
            if Cause.OTHER_VALUE not in rest:
                return [Cause.URL_ENCODED, *rest]
    if any(encode(ours) == theirs.encode("utf-8", "surrogateescape") for encode in CHARSETS):
        return [Cause.CHARSET]
    if name == "timestamp" and _SECONDS.fullmatch(theirs):
        return [Cause.TIMESTAMP_SECONDS]
    return _judge_json(ours, theirs) if name == JSON_PARAMETER else [Cause.OTHER_VALUE]


def _judge_json(ours: str, theirs: str) -> list[Cause]:
    try:
        mine, other = (strict_json(text.encode("utf-8", "replace")) for text in (ours, theirs))
    except ValueError:
        return [Cause.OTHER_VALUE]
    if mine != other:
        if _drop(mine, ("0", 0)) == _drop(other, ()):
            return [Cause.ZERO_DROPPED]
        if _drop(mine, ()) == _drop(other, ("", None)):
            return [Cause.EMPTY_KEPT]
        return [Cause.OTHER_VALUE]
    found = {
        Cause.JSON_SPACES: _squeeze(theirs) != theirs,
        Cause.JSON_KEY_ORDER: _list_names(mine) != _list_names(other),
        Cause.JSON_ESCAPED: theirs.count("\\") != ours.count("\\"),
    }
    return [cause for cause, wrong in found.items() if wrong]


def _drop(value: object, unwanted: tuple[object, ...]) -> object:
    """Leave members with these values out of all objects."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        return {n: _drop(each, unwanted) for n, each in members if each not in unwanted}
    if isinstance(value, list):
        return [_drop(each, unwanted) for each in cast("list[object]", value)]
    return value


def _list_names(value: object) -> list[str]:
    """List the names of all objects in their order."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        return [each for name, member in members for each in (name, *_list_names(member))]
    if isinstance(value, list):
        return [name for each in cast("list[object]", value) for name in _list_names(each)]
    return []


def _squeeze(text: str) -> str:
    """Return a JSON text without the white space outside of its strings."""
    strings = re.split(r'("(?:[^"\\]|\\.)*")', text)
    return "".join(s if n % 2 else re.sub(r"\s", "", s) for n, s in enumerate(strings))

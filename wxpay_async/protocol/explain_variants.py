"""Write the strings that other code signs by mistake in place of the canonical string.

Each mistake is a step of a `Recipe` that differs from the right one. A signature does not show
what was signed, so all recipes with one mistake are tried, and then those with two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Any, Final, Literal, cast
from urllib.parse import quote, quote_plus

import attrs

from wxpay_async.protocol import content
from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.strict_json import strict_json

JSON_PARAMETER: Final = "bizContent"

JsonOrder = Literal["as given", "sorted", "outermost sorted"]
Escape = Literal["", "lower", "upper", "php", "html"]
Order = Literal["ascii", "as given", "ignoring case"]
Change = tuple[tuple[Cause, ...], Mapping[str, object]]


@attrs.frozen
class JsonStyle:
    """How a JSON text is written.

    Attributes:
        separators: between two members, and between a name and its value.
        indent: blanks a level, each member on its own line; None for one line.
        order: of the names: as given, sorted, or sorted in the outermost object only.
        escape: what stands for characters that need no escape.
    """

    separators: tuple[str, str] = (",", ":")
    indent: int | None = None
    order: JsonOrder = "as given"
    escape: Escape = ""

    def write(self, text: str) -> str:
        """Return the JSON of a text in this style; other text as it is."""
        try:
            value = strict_json(text.encode())
        except ValueError:
            return text
        if self.order == "outermost sorted" and isinstance(value, dict):
            value = dict(sorted(cast("dict[str, object]", value).items()))
        written = json.dumps(
            value,
            ensure_ascii=self.escape in {"lower", "upper", "php"},
            indent=self.indent,
            separators=self.separators,
            sort_keys=self.order == "sorted",
            default=float,  # a number with a fraction, as other languages read it
        )
        return _ESCAPES[self.escape](written)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with this style."""
        found = {
            Cause.JSON_SPACES: self.indent is not None or self.separators != (",", ":"),
            Cause.JSON_KEY_ORDER: self.order != "as given",
            Cause.JSON_ESCAPED: bool(self.escape),
        }
        return tuple(cause for cause, wrong in found.items() if wrong)


def _raise_case(text: str) -> str:
    r"""Write the digits of each \uXXXX in upper case."""
    first, *rest = text.split("\\u")
    return first + "".join("\\u" + each[:4].upper() + each[4:] for each in rest)


def _escape_html(text: str) -> str:
    # As Gson and Go do. None of these stands outside of a JSON text's strings.
    return functools.reduce(lambda t, c: t.replace(c, f"\\u{ord(c):04x}"), "<>&='", text)


_ESCAPES: Final[Mapping[Escape, Callable[[str], str]]] = {
    "": lambda text: text,
    "lower": lambda text: text,
    "upper": _raise_case,
    "php": lambda text: text.replace("/", "\\/"),
    "html": _escape_html,
}


@attrs.frozen(kw_only=True)
class Recipe:
    """How a string is made of parameters; the defaults make the canonical string."""

    encode_value: Callable[[str], str] | None = None
    encode_whole: Callable[[str], str] | None = None
    restyle: Callable[[str], str] | None = None
    empty_as: str | None = None
    keeps_zero: bool = True
    seconds: bool = False
    sign: str | None = None
    sign_type: str | None = None
    order: Order = "ascii"
    end: str = ""
    encode: Callable[[str], bytes] = str.encode

    def write(self, params: Mapping[str, str]) -> bytes:
        """Return the bytes that code which follows this recipe signs."""
        values = self._change_names(params)
        pairs = [
            f"{name}={self._write_value(name, values[name])}"
            for name in self._sort(values)
            if (values[name] or self.empty_as is not None)
            and (values[name] != "0" or self.keeps_zero)
        ]
        text = "&".join(pairs) + self.end
        return SecretBytes(self.encode(self.encode_whole(text) if self.encode_whole else text))

    def _change_names(self, params: Mapping[str, str]) -> dict[str, str]:
        values = {name: value for name, value in params.items() if name != "sign"}
        if self.sign is not None:
            values["sign"] = self.sign
        if self.sign_type is not None:
            values["signType"] = self.sign_type
        return values

    def _sort(self, names: Iterable[str]) -> list[str]:
        if self.order == "as given":
            return list(names)
        return sorted(names, key=str.lower if self.order == "ignoring case" else None)

    def _write_value(self, name: str, value: str) -> str:
        value = value or self.empty_as or ""
        if name == JSON_PARAMETER:
            value = value if self.keeps_zero else _drop_zeros(value)
            value = self.restyle(value) if self.restyle else value
        if name == "timestamp" and self.seconds:
            value = value[:-3]
        return self.encode_value(value) if self.encode_value else value


@attrs.frozen
class Variant:
    """A string that other code may have signed.

    Attributes:
        causes: what is wrong with it; nothing with the canonical string.
        mistakes: how many steps of its recipe are wrong; one can have several causes.
        message: its bytes.
    """

    causes: tuple[Cause, ...]
    mistakes: int
    message: bytes = attrs.field(repr=False)


def write_variants(params: Mapping[str, str], signatures: Iterable[str]) -> Iterator[Variant]:
    """Write the canonical string, then every string with one mistake, then those with two.

    No string comes twice: the first causes that make it count.

    Args:
        params: every parameter of the call.
        signatures: what the parameter `sign` may have held where it was signed, too.
    """
    changes = list(_list_changes(signatures))
    pairs = (
        ((*first[0], *second[0]), {**first[1], **second[1]})
        for first, second in combinations(changes, 2)
        if not first[1].keys() & second[1].keys()
    )
    seen = set[bytes]()
    right: Change = (), {}
    for causes, changed in (right, *changes, *pairs):
        message = Recipe(**cast("dict[str, Any]", changed)).write(params)
        if message not in seen:
            seen.add(message)
            yield Variant(causes, len(changed), message)


def _list_changes(signatures: Iterable[str]) -> Iterator[Change]:
    """List the single mistakes, the likely ones first."""
    for encoder in _URL_ENCODERS:
        yield (Cause.URL_ENCODED,), {"encode_value": encoder}
    for style in _STYLES:
        yield style.causes, {"restyle": functools.cache(style.write)}
    yield (Cause.EMPTY_KEPT,), {"empty_as": ""}
    yield (Cause.EMPTY_KEPT,), {"empty_as": "null"}
    yield (Cause.ZERO_DROPPED,), {"keeps_zero": False}
    yield (Cause.TIMESTAMP_SECONDS,), {"seconds": True}
    for signature in signatures:
        yield (Cause.SIGN_INCLUDED,), {"sign": signature}
    for sign_type in ("", "MD5", "RSA", "RSA2"):
        yield (Cause.SIGN_TYPE,), {"sign_type": sign_type}
    yield (Cause.NOT_SORTED,), {"order": "as given"}
    yield (Cause.NOT_SORTED,), {"order": "ignoring case"}
    for encode in CHARSETS:
        yield (Cause.CHARSET,), {"encode": encode}
    yield (Cause.LINE_BREAK_AT_END,), {"end": "\n"}
    yield (Cause.LINE_BREAK_AT_END,), {"end": "\r\n"}
    yield (Cause.URL_ENCODED,), {"encode_whole": _quote_all}


def _quote_all(text: str) -> str:
    return quote(text, safe="")


def _quote_plus_all(text: str) -> str:
    return quote_plus(text)


def _quote_like_javascript(text: str) -> str:
    return quote(text, safe="!'()*")


def _quote_like_java(text: str) -> str:
    return quote_plus(text, safe="*").replace("~", "%7E")


def _quote_in_lower_case(text: str) -> str:
    """Quote as .NET's HttpUtility does."""
    first, *rest = quote_plus(text, safe="!()*").split("%")
    return first + "".join("%" + each[:2].lower() + each[2:] for each in rest)


_URL_ENCODERS: Final = (
    _quote_all,
    _quote_plus_all,
    _quote_like_javascript,
    _quote_like_java,
    _quote_in_lower_case,
    quote,
    content.quote,
)

_ORDERS: Final[tuple[JsonOrder, ...]] = ("as given", "sorted", "outermost sorted")
_STYLES: Final = [
    JsonStyle(separators, indent, order, escape)
    for (separators, indent), order, escape in product(
        [
            ((",", ":"), None),
            ((", ", ": "), None),
            ((",", ": "), 2),
            ((",", ": "), 4),
        ],
        _ORDERS,
        _ESCAPES,
    )
][1:]
"""Every way to write JSON but the right one, which comes first."""


def _encode_mojibake(text: str) -> bytes:
    """Encode UTF-8 that was read as Latin-1."""
    return text.encode().decode("latin-1").encode()


def _encode_misread(text: str) -> bytes:
    """Encode UTF-8 that was read as GBK."""
    return text.encode().decode("gbk", "replace").encode()


def _encode_gbk(text: str) -> bytes:
    return text.encode("gb18030")


def _encode_latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")  # as ASCII does for Chinese: a question mark


CHARSETS: Final = (_encode_gbk, _encode_latin, _encode_mojibake, _encode_misread)
"""What other charsets make of a text."""


def _drop_zeros(text: str) -> str:
    """Leave every "0" out of the objects of a compact JSON text."""

    def drop(value: object) -> object:
        if isinstance(value, dict):
            members = cast("dict[str, object]", value)
            return {n: drop(member) for n, member in members.items() if member not in ("0", 0)}
        if isinstance(value, list):
            return [drop(each) for each in cast("list[object]", value)]
        return value

    try:
        value = strict_json(text.encode())
    except ValueError:
        return text
    return json.dumps(drop(value), ensure_ascii=False, separators=(",", ":"), default=float)

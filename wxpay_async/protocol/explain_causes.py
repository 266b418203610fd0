"""Name what can be wrong with a signature, each cause with a sentence in English and in Chinese."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.language import Sentence


class Dropped(enum.StrEnum):
    """Why a parameter is not part of the canonical string."""

    EMPTY = "empty"
    SIGN = "sign"

    @property
    def sentence(self) -> Sentence:
        """What to tell a person."""
        return _DROPPED[self]


class Verdict(enum.StrEnum):
    """What comparing with a text of the other side found."""

    MATCHES = "matches"
    EXPLAINED = "explained"
    UNKNOWN = "unknown"

    @property
    def sentence(self) -> Sentence:
        """What to tell a person."""
        return _VERDICTS[self]


class Cause(enum.StrEnum):
    """Why another signature, or another canonical string, came out."""

    # How the canonical string was built
    URL_ENCODED = "url_encoded"
    JSON_SPACES = "json_spaces"
    JSON_KEY_ORDER = "json_key_order"
    JSON_ESCAPED = "json_escaped"
    EMPTY_KEPT = "empty_kept"
    ZERO_DROPPED = "zero_dropped"
    TIMESTAMP_SECONDS = "timestamp_seconds"
    SIGN_INCLUDED = "sign_included"
    SIGN_TYPE = "sign_type"
    NOT_SORTED = "not_sorted"
    CHARSET = "charset"
    LINE_BREAK_AT_END = "line_break_at_end"
    OTHER_PARAMETERS = "other_parameters"
    OTHER_VALUE = "other_value"
    # How it was signed
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a cause's name
    SECRET_PLACED = "secret_placed"  # noqa: S105 - a cause's name
    WRONG_KEY = "wrong_key"
    WRONG_HASH = "wrong_hash"
    HASHED_TWICE = "hashed_twice"
    WRONG_PADDING = "wrong_padding"
    WRONG_SCHEME = "wrong_scheme"
    OTHER_TEXT = "other_text"
    # How the signature was written
    LOWER_CASE_HEX = "lower_case_hex"
    LINE_BREAKS = "line_breaks"
    SIGNATURE_URL_ENCODED = "signature_url_encoded"
    PLUS_AS_BLANK = "plus_as_blank"
    BASE64_SPELLING = "base64_spelling"
    OTHER_ENCODING = "other_encoding"

    @property
    def sentence(self) -> Sentence:
        """What to tell a person: what the other side does, and what is right."""
        return _CAUSES[self]


_DROPPED: Final[Mapping[Dropped, Sentence]] = MappingProxyType(
    {
        Dropped.EMPTY: Sentence("an empty value is not signed", "空值不参与签名"),
        Dropped.SIGN: Sentence("the signature does not sign itself", "sign 参数本身不参与签名"),
    }
)

_VERDICTS: Final[Mapping[Verdict, Sentence]] = MappingProxyType(
    {
        Verdict.MATCHES: Sentence("It matches.", "一致。"),
        Verdict.EXPLAINED: Sentence("It differs, and this is why:", "不一致，原因如下："),
        Verdict.UNKNOWN: Sentence(
            "It differs, and the cause is unknown: none of the usual mistakes makes this text. "
            "Compare the canonical strings of both sides, then the secret or the key.",
            "不一致，原因未知：常见错误都得不到这段文本。请先对比双方的待签名字符串，再核对密钥。",
        ),
    }
)

_CAUSES: Final[Mapping[Cause, Sentence]] = MappingProxyType(
    {
        Cause.URL_ENCODED: Sentence(
            "The values were URL-encoded before signing; sign them raw, and encode them only in "
            "the form that is sent.",
            "签名前对值做了 URL 编码；应对原始值签名，只在发送表单时编码。",
        ),
        Cause.JSON_SPACES: Sentence(
            "The JSON of bizContent was written again with other white space; sign the very text "
            "that is sent.",
            "bizContent 的 JSON 被重新序列化，空格或换行不同；应对实际发送的文本签名。",
        ),
        Cause.JSON_KEY_ORDER: Sentence(
            "The JSON of bizContent was written again with its keys in another order; sign the "
            "very text that is sent.",
            "bizContent 的 JSON 被重新序列化，键的顺序不同；应对实际发送的文本签名。",
        ),
        Cause.JSON_ESCAPED: Sentence(
            "The JSON of bizContent was written again with other escapes, as \\uXXXX for Chinese "
            "or \\/ for a slash; sign the very text that is sent.",
            "bizContent 的 JSON 被重新序列化，转义不同（如中文写成 \\uXXXX，斜杠写成 \\/）；"
            "应对实际发送的文本签名。",
        ),
        Cause.EMPTY_KEPT: Sentence(
            "Empty values were kept; leave out every parameter whose value is empty.",
            "保留了空值；值为空的参数应全部去掉。",
        ),
        Cause.ZERO_DROPPED: Sentence(
            'The value "0" was left out as if it were empty; only an empty text is dropped.',
            '"0" 被当作空值去掉了；只有空字符串才去掉。',
        ),
        Cause.TIMESTAMP_SECONDS: Sentence(
            "The timestamp is in seconds; the platform takes milliseconds, 13 digits.",
            "timestamp 以秒为单位；平台要求毫秒，共 13 位。",
        ),
        Cause.SIGN_INCLUDED: Sentence(
            "The parameter sign was signed too; leave it out.",
            "sign 参数也参与了签名；应去掉它。",
        ),
        Cause.SIGN_TYPE: Sentence(
            "The parameter signType was left out or added: RSA signs signType=RSA, and MD5 has no "
            "such parameter.",
            "signType 参数缺失或多余：RSA 签名包含 signType=RSA，MD5 没有该参数。",
        ),
        Cause.NOT_SORTED: Sentence(
            "The parameters are not sorted by name in ASCII order, where capitals come before "
            "small letters.",
            "参数没有按名称的 ASCII 顺序排序（大写字母在小写字母之前）。",
        ),
        Cause.CHARSET: Sentence(
            "The text was signed in another charset, such as GBK; sign its UTF-8 bytes.",
            "签名时使用了其他字符集（如 GBK）；应对 UTF-8 字节签名。",
        ),
        Cause.LINE_BREAK_AT_END: Sentence(
            "A line break at the end was signed too, as `echo` adds one; use `printf %s`.",
            "末尾的换行符也参与了签名（echo 会追加换行）；请改用 printf %s。",
        ),
        Cause.OTHER_PARAMETERS: Sentence(
            "Parameters are missing, or there are others.", "缺少参数，或有多余的参数。"
        ),
        Cause.OTHER_VALUE: Sentence("A value is another one.", "参数的值不同。"),
        Cause.WRONG_SECRET: Sentence(
            "Another appSecret was used, or one with a blank, a line break or another case.",
            "使用了另一个 appSecret，或其中多了空格、换行，或大小写不同。",
        ),
        Cause.SECRET_PLACED: Sentence(
            "The secret enters in another way; append &appSecret=<secret> to the canonical string.",
            "密钥的拼接方式不同；应在待签名字符串末尾追加 &appSecret=<密钥>。",
        ),
        Cause.WRONG_KEY: Sentence(
            "Another RSA key made the signature; register the public key that belongs to the "
            "private one that signs.",
            "签名用的是另一把 RSA 密钥；应登记与签名私钥配对的公钥。",
        ),
        Cause.WRONG_HASH: Sentence(
            "Another hash was used: RSA signs by SHA-256, and the MD5 scheme takes plain MD5 "
            "without HMAC.",
            "使用了其他摘要算法：RSA 使用 SHA-256，MD5 方案使用普通 MD5，不是 HMAC。",
        ),
        Cause.HASHED_TWICE: Sentence(
            "A digest was hashed again: hand the canonical string to the signing function, not "
            "its digest.",
            "摘要又被计算了一次：应把待签名字符串交给签名函数，而不是它的摘要。",
        ),
        Cause.WRONG_PADDING: Sentence(
            "The RSA padding is another one; the scheme is RSASSA-PKCS1-v1_5, not PSS and not a "
            "bare digest.",
            "RSA 填充方式不同；应使用 RSASSA-PKCS1-v1_5，不是 PSS，也不是裸摘要。",
        ),
        Cause.WRONG_SCHEME: Sentence(
            "It is a signature of the other scheme: one side signs by MD5, the other by RSA.",
            "这是另一种方案的签名：一方使用 MD5，另一方使用 RSA。",
        ),
        Cause.OTHER_TEXT: Sentence(
            "This very key made the signature, over another text that none of the usual mistakes "
            "makes; compare the canonical strings.",
            "签名确实出自这把密钥，但签的是另一段文本，且常见错误都得不到它；请对比待签名字符串。",
        ),
        Cause.LOWER_CASE_HEX: Sentence(
            "The hexadecimal digits are in lower case; write them in upper case.",
            "十六进制签名是小写；应使用大写。",
        ),
        Cause.LINE_BREAKS: Sentence(
            "The signature has line breaks or blanks in it or around it; write it on one line "
            "(`base64 -w0`, Base64.NO_WRAP).",
            "签名中或前后有换行或空格；应写成一行（base64 -w0、Base64.NO_WRAP）。",
        ),
        Cause.SIGNATURE_URL_ENCODED: Sentence(
            "The signature itself is URL-encoded; encode it once, in the form that is sent.",
            "签名本身被 URL 编码；只应在发送表单时编码一次。",
        ),
        Cause.PLUS_AS_BLANK: Sentence(
            "Every + of the signature became a blank: it was sent without URL-encoding.",
            "签名中的 + 变成了空格：发送时没有做 URL 编码。",
        ),
        Cause.BASE64_SPELLING: Sentence(
            "The Base64 is of another kind: - and _ in place of + and /, or without its =.",
            "Base64 写法不同：用 - 和 _ 代替了 + 和 /，或缺少末尾的 =。",
        ),
        Cause.OTHER_ENCODING: Sentence(
            "The signature is encoded in another way: MD5 is written in hexadecimal, RSA in "
            "Base64.",
            "签名的编码方式不同：MD5 用十六进制，RSA 用 Base64。",
        ),
    }
)

"""Define the commands about signatures: `sign explain`, `sign request` and `sign verify`.

They send nothing. What they print holds no secret and no credential of a payer.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.main import EXIT_CODES, app, exit_with_error
from wxpay_async.cli.options import GatewayOptions, client_command
from wxpay_async.cli.output import print_json, print_result, print_short_warnings, translate
from wxpay_async.language import Sentence, find_language

if TYPE_CHECKING:
    from wxpay_async.protocol.explain import Explanation
    from wxpay_async.protocol.signing import Md5Signer, RsaSigner, RsaVerifier

    Key = Md5Signer | RsaSigner | RsaVerifier

_LONGEST: Final = 1 << 20
_DIFFERS: Final = 1
_DIFFERENCES: Final = {
    "canonical string": Sentence("the canonical string differs", "待签名字符串不一致"),
    "signature": Sentence("the signature differs", "签名不一致"),
}
_TRY_OTHERS: Final = Sentence(
    "To try another secret or key, name its file: sign explain --other-file PATH.",
    "要试另一个密钥，请给出它的文件：sign explain --other-file PATH。",
)
_MODE: Final = 0o600
_NEEDED: Final = ("WXPAY_APP_KEY", "WXPAY_PRIVATE_KEY_PASSPHRASE", "WXPAY_KEY_FILE_MODE")
_FORMER: Final = "WXPAY_FORMER_SECRETS"

sign = typer.Typer(
    epilog=EXIT_CODES, help="Make, verify and explain signatures, without sending anything."
)
app.add_typer(sign, name="sign")
_sign_command = functools.partial(client_command, group=sign)

RequestFile = Annotated[
    str | None,
    Argument(
        help="File with the request, or - for stdin: a bizContent (JSON with requestId), JSON of "
        "the call's parameters, or the form that was sent.",
        metavar="FILE",
        show_default=False,
    ),
]
RequestText = Annotated[
    str | None,
    Option(
        "--request",
        help="The request itself in place of FILE. Other users of the machine can see it.",
        metavar="TEXT",
    ),
]
Nonce = Annotated[
    str | None, Option(help="Else the request's, that of --against, or a new one.", metavar="TEXT")
]
Timestamp = Annotated[
    str | None, Option(help="Milliseconds; else as --nonce, or now.", metavar="MS")
]
Against = Annotated[
    str | None,
    Option(
        help="A canonical string or a signature that the other side computed. Else the request's "
        "own sign.",
        metavar="TEXT",
    ),
]
AgainstFile = Annotated[
    str | None,
    Option(help="File with it, in whatever charset; - for stdin.", metavar="PATH"),
]
OtherFiles = Annotated[
    list[Path] | None,
    Option(
        "--other-file",
        help="File with a secret or a key that the other side may have used by mistake; may be "
        f"repeated. The secrets of {_FORMER} are tried, too.",
        metavar="PATH",
    ),
]
FormFile = Annotated[
    Path | None,
    Option(
        help="New file, mode 0600, for the form to post: curl --data-binary @PATH. It holds the "
        "payer's credentials.",
        metavar="PATH",
    ),
]
PublicKeyFile = Annotated[
    Path | None,
    Option(
        help="File with the signer's public key, such as the platform's for its callbacks, in "
        "place of your own secret or key.",
        metavar="PATH",
    ),
]
Signature = Annotated[
    str | None, Option(help="The signature; else the request's own sign.", metavar="TEXT")
]


@sign.callback(invoke_without_command=True)
def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@_sign_command
def explain(
    options: GatewayOptions,
    file: RequestFile = None,
    *,
    request: RequestText = None,
    against: Against = None,
    against_file: AgainstFile = None,
    nonce: Nonce = None,
    timestamp: Timestamp = None,
    other_files: OtherFiles = None,
) -> None:
    """Show how a signature comes about, and why another one differs.

    MD5: the canonical string, then &appSecret=<secret>, hashed. RSA: the
    canonical string with signType=RSA, signed by SHA-256 and PKCS#1 v1.5.
    The exit code is 1 if the other side's text differs.
    """
    from wxpay_async.protocol import explain as explaining  # noqa: PLC0415 - help does without

    if file == against_file == "-":
        raise InvalidRequestError(
            "both from stdin", field="FILE, --against-file", allowed="- for one of them"
        )
    params = _read_request(file, request)
    theirs = _read_against(against, against_file)
    key, app_key, former = _read_signer(options, params)
    others = [*former, *(_read_other(path, key) for path in other_files or ())]
    params = _complete(params, key, app_key, nonce=nonce, timestamp=timestamp, against=theirs)
    _report(explaining.explain(params, key, against=theirs, others=others), options)


@_sign_command
def request(
    options: GatewayOptions,
    file: RequestFile = None,
    *,
    request: RequestText = None,
    nonce: Nonce = None,
    timestamp: Timestamp = None,
    form_file: FormFile = None,
) -> None:
    """Sign a request, and print what is added to it: appKey, nonce, timestamp, sign."""
    from urllib.parse import urlencode  # noqa: PLC0415 - as in `explain`

    from wxpay_async.protocol.canonical import canonical_string  # noqa: PLC0415 - help does without

    params = {name: text for name, text in _read_request(file, request).items() if name != "sign"}
    key, app_key, _ = _read_signer(options, params)
    params = _complete(params, key, app_key, nonce=nonce, timestamp=timestamp, against=None)
    params["sign"] = key.sign(canonical_string(params).encode())
    if form_file is not None:
        _write_new_file(form_file, urlencode(params))
    added = ("appKey", "nonce", "timestamp", "signType", "sign")
    print_result({name: params[name] for name in added if name in params}, as_json=options.as_json)


@_sign_command
def verify(
    options: GatewayOptions,
    file: RequestFile = None,
    *,
    request: RequestText = None,
    signature: Signature = None,
    public_key_file: PublicKeyFile = None,
) -> None:
    """Verify the signature of a request or a callback with all its parameters.

    The exit code is 1 if it is wrong; the likely cause is shown.
    """
    from wxpay_async.protocol.explain import explain as explain_signature  # noqa: PLC0415
    from wxpay_async.protocol.signing import RsaVerifier  # noqa: PLC0415 - help does without

    params = _read_request(file, request)
    if signature is None and not params.get("sign"):
        raise InvalidRequestError(
            "missing", field="sign", allowed="a request with its sign, or --signature"
        )
    if public_key_file is not None:
        key: Key = RsaVerifier.from_file(public_key_file, any_mode=_allows_any_mode())
        others: list[Key] = []
    else:
        key, _, others = _read_signer(options, params)
    against = signature or params["sign"]
    _report(explain_signature(params, key, against=f"sign={against}", others=others), options)


def _report(found: Explanation, options: GatewayOptions) -> None:
    from wxpay_async.cli.sign_screen import (  # noqa: PLC0415 - as in `explain`
        print_explanation,
        to_fields,
    )

    language = find_language(os.environ)
    if options.as_json:
        print_json(to_fields(found, language))
    else:
        print_explanation(found, language)
    comparison = found.comparison
    if comparison is not None and comparison.verdict != "matches":
        hint = translate(_TRY_OTHERS) if comparison.verdict == "unknown" else ""
        exit_with_error(translate(_DIFFERENCES[comparison.kind]), _DIFFERS, hint=hint)


def _read_request(file: str | None, text: str | None) -> dict[str, str]:
    """Read the parameters of a call.

    Raises:
        InvalidRequestError: both or neither is given, or it is none of what can be read.
    """
    from wxpay_async.cli.sign_input import read_parameters  # noqa: PLC0415 - as in `explain`

    if (file is None) == (text is None):
        raise InvalidRequestError(
            "both or neither given", field="FILE", allowed="FILE, - for stdin, or --request"
        )
    data = _read_bytes(file) if file is not None else os.fsencode(text or "")
    return read_parameters(data)


def _read_against(text: str | None, file: str | None) -> bytes | None:
    if text is None and file is None:
        return None
    if text is not None and file is not None:
        raise InvalidRequestError(
            "both given", field="--against, --against-file", allowed="one of them"
        )
    # An editor ends a file by a line break, which was not signed.
    data = (
        _read_bytes(file).removesuffix(b"\n").removesuffix(b"\r")
        if file is not None
        else os.fsencode(text or "")
    )
    if not data:
        raise InvalidRequestError(
            "empty", field="--against", allowed="a canonical string or a signature"
        )
    return data


def _read_bytes(name: str) -> bytes:
    from wxpay_async.protocol.secrets import SecretBytes  # noqa: PLC0415 - as in `explain`

    if name == "-":
        return SecretBytes(sys.stdin.buffer.read(_LONGEST))
    try:
        with Path(name).open("rb") as file:
            return SecretBytes(file.read(_LONGEST))
    except OSError as error:
        raise InvalidRequestError(
            f"cannot be read ({error.strerror})", field=name, allowed="a file, or - for stdin"
        ) from None


def _read_signer(
    options: GatewayOptions, params: Mapping[str, str]
) -> tuple[Md5Signer | RsaSigner, str, list[Key]]:
    """Return the signer that the settings describe, the appKey, and the former secrets.

    Raises:
        InvalidRequestError, InvalidKeyError: a setting is missing or cannot be used.
    """
    from wxpay_async.engine.environment import (  # noqa: PLC0415 - as in `explain`
        SCHEMES,
        Settings,
        read_parts,
    )
    from wxpay_async.protocol.signing import Md5Signer  # noqa: PLC0415 - help does without

    given = options.build_environment()
    # No others: nothing is connected to, and what they need may not be installed here.
    environ: dict[str, str] = {
        name: given[name] for name in (*_NEEDED, *SCHEMES, _FORMER) if name in given
    }
    environ["WXPAY_APP_KEY"] = environ.get("WXPAY_APP_KEY") or params.get("appKey", "")
    with print_short_warnings():
        parts = read_parts(Settings(environ), {})
    keys = parts.options.get("seal_keys") or ()
    former = [key for key in keys if isinstance(key, Md5Signer) and key is not parts.signer]
    return parts.signer, parts.app_key, [*former]


def _read_other(path: Path, key: Key) -> Key:
    """Read a secret, or a private or public key, by the scheme of the right one."""
    from wxpay_async.protocol.keys import read_key_file  # noqa: PLC0415 - as in `explain`
    from wxpay_async.protocol.secrets import SecretBytes  # noqa: PLC0415 - help does without
    from wxpay_async.protocol.signing import Md5Signer, RsaSigner, RsaVerifier  # noqa: PLC0415

    any_mode = _allows_any_mode()
    if isinstance(key, Md5Signer):
        data = SecretBytes(read_key_file(path, private=True, any_mode=any_mode))
        return Md5Signer(data.decode("utf-8-sig", "replace").strip())
    try:
        return RsaVerifier.from_file(path, any_mode=any_mode)
    except InvalidKeyError:
        return RsaSigner.from_file(
            path, os.environ.get("WXPAY_PRIVATE_KEY_PASSPHRASE"), any_mode=any_mode
        )


def _allows_any_mode() -> bool:
    return os.environ.get("WXPAY_KEY_FILE_MODE") == "any"


def _complete(
    params: Mapping[str, str],
    key: Md5Signer | RsaSigner,
    app_key: str,
    *,
    nonce: str | None,
    timestamp: str | None,
    against: bytes | None,
) -> dict[str, str]:
    """Add what each attempt has of its own, and what says who signs and how."""
    import secrets  # noqa: PLC0415 - as in `explain`
    import time  # noqa: PLC0415 - help does without

    from wxpay_async.protocol.builder import RequestBuilder  # noqa: PLC0415 - help does without
    from wxpay_async.protocol.explain import lay_out  # noqa: PLC0415 - help does without
    from wxpay_async.protocol.wire import PRODUCTION  # noqa: PLC0415 - help does without

    given = {"nonce": nonce, "timestamp": timestamp}
    own = {name: text for name, text in given.items() if text is not None}
    _, complete = lay_out(
        {**params, **own},
        RequestBuilder(app_key, key.sign_type, PRODUCTION),
        now_ms=time.time_ns() // 1_000_000,
        nonce=secrets.token_hex(16),
        against=against,
    )
    return complete


def _write_new_file(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise InvalidRequestError(
            f"cannot be written ({error.strerror})", field="--form-file", allowed="a new file"
        ) from None

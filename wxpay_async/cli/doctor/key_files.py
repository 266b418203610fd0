"""Look at what signs: the secret or the key, its file, and the public key to upload."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe
from wxpay_async.cli.doctor.settings import Setup, describe_path, find_problem
from wxpay_async.cli.key_facts import KeyFacts, describe_key, read_key_facts
from wxpay_async.engine.environment import SCHEMES
from wxpay_async.engine.mix_up import PLATFORM_KEY
from wxpay_async.language import Sentence
from wxpay_async.protocol.keys import InsecureKeyFileWarning, read_key_file
from wxpay_async.protocol.secrets import SecretBytes

_PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
_LOOK: Final = Sentence(
    "`wxpay-async keys show FILE` says what is in it, `keys new FILE` makes a new key",
    "`wxpay-async keys show FILE` 可查看文件里是哪种密钥，`keys new FILE` 可生成新密钥",
)
_MEND: Final = Sentence(
    "run chmod 600 on it; or WXPAY_KEY_FILE_MODE=any, where a mount decides",
    "对它执行 chmod 600；权限由挂载方式决定时，设置 WXPAY_KEY_FILE_MODE=any",
)
_COMPARE: Final = Sentence(
    "compare the fingerprint with that of the key in the platform's console",
    "与平台后台中公钥的指纹核对",
)
_write: Final = Scribe(Area.KEYS)


def check_key_files(setup: Setup, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what signs, and at the platform's key that verifies callbacks."""
    any_mode = setup.settings["WXPAY_KEY_FILE_MODE"] == "any"
    for name in SCHEMES:
        value, passphrase = setup.settings[name], setup.settings[_PASSPHRASE]
        problem = find_problem(setup.problems, name)
        if not value or isinstance(problem, InvalidRequestError):
            continue  # of which the lines about the settings tell
        try:
            # Not told by the problem: where others were found first, the key was not read.
            yield _check(name, value, passphrase, any_mode=any_mode)
        except InvalidKeyError as error:
            yield _write_failure(name, value, error)
    platform = environ.get(PLATFORM_KEY, "").strip()
    if platform:
        yield _check_platform_key(platform, any_mode=any_mode)


def _write_failure(name: str, value: str, error: InvalidKeyError) -> Finding:
    text, is_open, _ = hide_path(str(error), value).partition("; run chmod")
    advice = _MEND if is_open else _LOOK
    if "passphrase" in text:
        advice = Sentence(
            f"set {_PASSPHRASE} to the passphrase of the key", f"将 {_PASSPHRASE} 设为该密钥的口令"
        )
    return _write.fail(name, text, advice)


def hide_path(text: str, value: str) -> str:
    """Take what was given for a path out of a text, where it may be a secret."""
    return text if describe_path(value) == value else text.replace(value, "the path")


def _check(name: str, value: str, passphrase: str, *, any_mode: bool) -> Finding:
    if name == "WXPAY_APP_SECRET":
        return _describe(name, "", None, is_open=False)
    facts: KeyFacts | None = None
    if name == "WXPAY_PRIVATE_KEY":
        facts = _require_private(describe_key(SecretBytes(value.encode()), passphrase), name)
        return _describe(name, "", facts, is_open=False)
    path = Path(value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if name == "WXPAY_APP_SECRET_FILE":
            read_key_file(path, private=True, any_mode=any_mode)
        else:
            facts = read_key_facts(path, passphrase, any_mode=any_mode)
            _require_private(facts, str(path))
    is_open = any(issubclass(each.category, InsecureKeyFileWarning) for each in caught)
    return _describe(name, _read_mode(path), facts, is_open=is_open)


def _require_private(facts: KeyFacts, where: str) -> KeyFacts:
    if not facts.is_private:
        raise InvalidKeyError(f"{where}: this is a public key; signing needs your private key")
    return facts


def _describe(name: str, mode: str, facts: KeyFacts | None, *, is_open: bool) -> Finding:
    told: dict[str, object] = {"mode": mode} if mode else {}
    text = Sentence("signs by MD5; the secret is not shown", "用于 MD5 签名；不显示其内容")
    if facts is not None:
        told |= describe_facts(facts)
        text = Sentence(
            f"{facts.kind} key, RSA {facts.bits} bits, {facts.form}",
            f"{'私钥' if facts.is_private else '公钥'}，RSA {facts.bits} 位，{facts.form}",
        )
    if mode:
        text = Sentence(f"{text.en}; mode {mode}", f"{text.zh}；权限 {mode}")
    if is_open:
        text = Sentence(f"other users can read it: {text.en}", f"其他用户可以读取：{text.zh}")
        return _write.warn(name, text, _MEND, facts=told)
    return _write.ok(name, text, "" if facts is None else _COMPARE, facts=told)


def describe_facts(facts: KeyFacts) -> dict[str, object]:
    """Return what is told of a key, for JSON."""
    return {
        "kind": facts.kind,
        "format": facts.form,
        "bits": facts.bits,
        "fingerprint": facts.fingerprint,
        "publicKey": facts.public_base64,
    }


def _check_platform_key(value: str, *, any_mode: bool) -> Finding:
    path = Path(value)
    try:
        facts = read_key_facts(path, any_mode=any_mode)
    except InvalidKeyError as error:
        return _write_failure(PLATFORM_KEY, value, error)
    if facts.is_private:
        return _write.fail(
            PLATFORM_KEY,
            Sentence(
                "a private key; callbacks are verified by the platform's public key",
                "这是私钥；回调用平台公钥验签",
            ),
            Sentence(
                "save the platform's public key there; a private key stays with who signs by it",
                "在此处保存平台公钥；私钥只应留在签名方",
            ),
        )
    return _write.ok(
        PLATFORM_KEY,
        Sentence(
            f"verifies callbacks: public key, RSA {facts.bits} bits, {facts.form}",
            f"用于回调验签：公钥，RSA {facts.bits} 位，{facts.form}",
        ),
        facts={"kind": facts.kind, "bits": facts.bits, "fingerprint": facts.fingerprint},
    )


def _read_mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}" if os.name == "posix" else ""

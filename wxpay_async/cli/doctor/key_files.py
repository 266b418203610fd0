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
from wxpay_async.protocol.keys import InsecureKeyFileWarning, read_key_file
from wxpay_async.protocol.secrets import SecretBytes

_PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
_LOOK: Final = "`wxpay-async keys show FILE` says what is in it, `keys new FILE` makes a new key"
_MEND: Final = "run chmod 600 on it; or WXPAY_KEY_FILE_MODE=any, where a mount decides"
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
        advice = f"set {_PASSPHRASE} to the passphrase of the key"
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
    text, advice = "signs by MD5; the secret is not shown", ""
    if facts is not None:
        told |= describe_facts(facts)
        text = f"{facts.kind} key, RSA {facts.bits} bits, {facts.form}"
        advice = "compare the fingerprint with that of the key in the platform's console"
    text += f"; mode {mode}" if mode else ""
    if is_open:
        return _write.warn(name, f"other users can read it: {text}", _MEND, facts=told)
    return _write.ok(name, text, advice, facts=told)


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
            "a private key; callbacks are verified by the platform's public key",
            "save the platform's public key there; a private key stays with who signs by it",
        )
    return _write.ok(
        PLATFORM_KEY,
        f"verifies callbacks: public key, RSA {facts.bits} bits, {facts.form}",
        facts={"kind": facts.kind, "bits": facts.bits, "fingerprint": facts.fingerprint},
    )


def _read_mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}" if os.name == "posix" else ""

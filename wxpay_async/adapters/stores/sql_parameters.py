"""Translate the parameters of a database's address into what its driver takes.

Clouds print addresses for libpq (`?sslmode=require`) or for MySQL's own clients
(`?ssl-mode=REQUIRED`). A driver has other names for that, and meets a name that it does not know
only when it connects. Here a parameter is translated or refused when the store is made.

Nothing outlives a transaction on the server unless the address asks for it: behind a pooler such as
PgBouncer, the next transaction may meet another server.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlencode

from sqlalchemy.engine import URL

from wxpay_async.adapters.stores.failures import SetupError
from wxpay_async.errors import InvalidRequestError
from wxpay_async.extras import how_to_install

Texts = dict[str, str]
Arguments = dict[str, Any]

_PG_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PG_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_ASYNCPG_DSN: Final = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
        *("krbsrvname", "gsslib", "passfile"),
    }
)
"""What asyncpg reads itself, but only from an address of its own form."""

_ASYNCPG_SETTINGS: Final = ("application_name", "options", "search_path", "timezone")
_DESCRIPTIONS: Final = 100
"""Statements whose description a connection keeps."""

_STATEMENT_CACHES: Final = ("prepared_statement_cache_size", "statement_cache_size")
_HINT: Final = "pgbouncer"
"""Prisma's word for a pooler, in addresses that clouds print; every address is treated so."""

_MYSQL_MODES: Final = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_MYSQL_WORDS: Final = {
    **dict(
        zip(("disable", "prefer", "require", "verify-ca", "verify-full"), _MYSQL_MODES, strict=True)
    ),
    **dict.fromkeys(("true", "1", "yes", "on"), "REQUIRED"),
    **dict.fromkeys(("false", "0", "no", "off"), "DISABLED"),
}
_MYSQL_NAMES: Final = {
    **dict.fromkeys(("ssl", "sslmode", "ssl-mode", "ssl_mode"), "ssl_mode"),
    **{f"ssl-{name}": f"ssl_{name}" for name in ("ca", "capath", "cert", "key")},
    "socket": "unix_socket",
}
_MYSQL_KNOWN: Final = (
    *("ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_check_hostname"),
    *("ssl_verify_cert", "ssl_verify_identity", "unix_socket", "charset", "connect_timeout"),
)
IDLE_IN_TRANSACTION: Final = 15
"""Seconds until a server ends the transaction of a client that has fallen silent: else the rows
that it has locked would stay locked for as long as its connection stands."""

_MYSQL_SESSION: Final = (
    # Without strict mode MySQL may cut a value that is too long, and keep the rest.
    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
    # To MySQL, which has no such variable, and to MariaDB before 10.3 this is a comment.
    " /*M!100300 , SESSION idle_transaction_timeout = {idle} */"
)

_PG_PORT: Final = "5432"
_HOSTS: Final = re.compile(
    r"(?P<login>postgres(?:ql)?(?:\+\w+)?://(?:[^/?#]*@)?)"
    r"(?P<hosts>[^/?#@]*,[^/?#@]*|%2F[^/?#@]*)(?P<rest>[/?].*|)",
    re.IGNORECASE,
)
"""An address whose hosts SQLAlchemy does not read."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}")
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def limit_idle() -> str:
    """Return the expression by which a transaction of PostgreSQL is to end when it falls silent.

    It holds until the transaction ends, and costs no round trip of its own. A parameter of the
    connection a pooler might refuse, and one of the session it would leave to other clients.
    """
    return f"set_config('idle_in_transaction_session_timeout', '{IDLE_IN_TRANSACTION}s', true)"


def spell_hosts(address: str) -> str:
    """Return the address in a form that SQLAlchemy reads, if it is one that only libpq does.

    Several hosts (`postgresql://a:5432,b:5432/shop`) and a socket's folder as the host
    (`postgresql://%2Frun%2Fpostgresql/shop`) become parameters.
    """
    found = _HOSTS.fullmatch(address)
    if found is None:
        return address
    hosts = [
        (host, port or _PG_PORT) for host, _, port in map(_split_port, found["hosts"].split(","))
    ]
    if hosts[0][0].startswith("/"):
        added = urlencode({"host": hosts[0][0], "port": hosts[0][1]})
    else:
        added = urlencode([("host", f"{host}:{port}") for host, port in hosts])
    path, mark, query = found["rest"].partition("?")
    return f"{found['login']}{path}?{query}{'&' if mark else ''}{added}"


def _split_port(text: str) -> tuple[str, str, str]:
    return unquote(text).partition(":")


def translate(url: URL, timeout: float) -> tuple[URL, Arguments]:
    """Return the address without its parameters, and the arguments for the driver.

    Args:
        url: of a server, with the driver's name.
        timeout: seconds for connecting.

    Raises:
        InvalidRequestError: the driver has no such parameter, or not with this value. The value is
            not repeated: it may be a password.
    """
    texts: Texts = {}
    hosts: dict[str, Any] = {}
    for name, value in url.query.items():
        if name in {"host", "port"}:
            hosts[name] = value
        else:
            texts[name] = value if isinstance(value, str) else value[-1]
    arguments = _TRANSLATE[url.get_driver_name()](texts, timeout)
    return url.set(query=hosts), arguments


def _translate_for_asyncpg(texts: Texts, timeout: float) -> Arguments:
    _merge_pg_ssl(texts)
    cache = _take_cache_size(texts)
    limit = _take_seconds(texts, "connect_timeout", timeout)
    if texts.pop("channel_binding", "prefer") == "require":
        raise _refuse(
            "channel_binding", "asyncpg cannot require it", "prefer, or postgresql+psycopg"
        )
    settings = {name: texts.pop(name) for name in _ASYNCPG_SETTINGS if name in texts}
    known = (*sorted(_ASYNCPG_DSN), *_ASYNCPG_SETTINGS, "connect_timeout", "ssl")
    _check_names(texts, _ASYNCPG_DSN, "asyncpg", known)
    arguments: Arguments = {
        "timeout": limit,
        "statement_cache_size": cache,
        # What is kept of a statement without a name is its description: it is parsed each time, in
        # the same round trip in which it is executed, so a pooler may lend any server for it.
        "prepared_statement_cache_size": cache or _DESCRIPTIONS,
        "server_settings": settings,
    }
    if texts.get("sslrootcert") == "system":
        del texts["sslrootcert"]
        if texts.pop("sslmode", "verify-full") != "verify-full":
            raise _refuse("sslmode", "too weak for sslrootcert=system", "verify-full")
        arguments["ssl"] = _open_files("sslrootcert", ssl.create_default_context)
    if texts:
        arguments["dsn"] = f"postgresql://?{urlencode(texts)}"
    return arguments


def _translate_for_psycopg(texts: Texts, timeout: float) -> Arguments:
    from psycopg.pq import Conninfo  # noqa: PLC0415 - an extra

    _merge_pg_ssl(texts)
    for name in _STATEMENT_CACHES:
        if name in texts:
            raise _refuse(name, "a parameter of asyncpg", "prepare_threshold")
    threshold = texts.pop("prepare_threshold", None)
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    _check_names(texts, known, "psycopg", sorted(known))
    return {
        "connect_timeout": max(2, round(timeout)),  # libpq's least
        **texts,
        "prepare_threshold": None if threshold is None else _read_count(threshold),
    }


def _translate_for_asyncmy(texts: Texts, timeout: float) -> Arguments:
    given = {_MYSQL_NAMES.get(name.lower(), name.lower()): text for name, text in texts.items()}
    _check_names(given, _MYSQL_KNOWN, "asyncmy", _MYSQL_KNOWN)
    if given.get("charset", "utf8mb4").lower() != "utf8mb4":
        raise _refuse("charset", "not wide enough for every name", "utf8mb4")
    arguments: Arguments = {
        "connect_timeout": _take_seconds(given, "connect_timeout", timeout),
        "charset": "utf8mb4",
        "init_command": _MYSQL_SESSION.format(idle=IDLE_IN_TRANSACTION),
        "async_creator_fn": _connect_asyncmy,
    }
    if "unix_socket" in given:
        arguments["unix_socket"] = given["unix_socket"]
    mode = _find_mysql_mode(given)
    if mode == "PREFERRED":
        arguments["async_creator_fn"] = _connect_preferring_tls
    if mode != "DISABLED":
        arguments["ssl"] = _open_files("ssl_ca", lambda: _make_mysql_context(mode, given))
    return arguments


_TRANSLATE: Final[Mapping[str, Callable[[Texts, float], Arguments]]] = {
    "asyncpg": _translate_for_asyncpg,
    "psycopg": _translate_for_psycopg,
    "asyncmy": _translate_for_asyncmy,
}


def _merge_pg_ssl(texts: Texts) -> None:
    """Leave only libpq's words for TLS, and check what they say."""
    texts.pop(_HINT, None)
    word = texts.pop("ssl", None)
    if word is not None:
        flag = _BOOLEANS.get(word.lower())
        mode = word.lower() if flag is None else "require" if flag else "disable"
        texts.setdefault("sslmode", mode)
    if texts.get("sslmode", "prefer") not in _PG_MODES:
        raise _refuse("sslmode", "no such mode", ", ".join(_PG_MODES))
    for name in _PG_FILES:
        file = texts.get(name)
        if file and file != "system" and not Path(file).is_file():
            raise _refuse(name, "no such file", "a file that can be read")


def _find_mysql_mode(given: Texts) -> str:
    flags = {
        name: _read_boolean(name, given[name])
        for name in ("ssl_check_hostname", "ssl_verify_identity", "ssl_verify_cert")
        if name in given
    }
    text = given.get("ssl_mode")
    if text is not None:
        mode = _MYSQL_WORDS.get(text.lower(), text.upper().replace("-", "_"))
        if mode not in _MYSQL_MODES:
            raise _refuse("ssl_mode", "no such mode", ", ".join(_MYSQL_MODES))
    else:
        mode = "VERIFY_CA" if {"ssl_ca", "ssl_capath"} & given.keys() else "DISABLED"
        if "ssl_cert" in given and mode == "DISABLED":
            mode = "REQUIRED"
    if mode != "DISABLED" or text is None:
        if flags.get("ssl_check_hostname") or flags.get("ssl_verify_identity"):
            return "VERIFY_IDENTITY"
        if flags.get("ssl_verify_cert") and mode in {"DISABLED", "PREFERRED", "REQUIRED"}:
            return "VERIFY_CA"
    return mode


def _make_mysql_context(mode: str, given: Texts) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=given.get("ssl_ca"), capath=given.get("ssl_capath"))
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode in {"PREFERRED", "REQUIRED"}:
        context.verify_mode = ssl.CERT_NONE
    if "ssl_cert" in given:
        context.load_cert_chain(given["ssl_cert"], keyfile=given.get("ssl_key"))
    return context


async def _connect_asyncmy(**arguments: Any) -> Any:  # noqa: ANN401 - a driver's
    import asyncmy  # noqa: PLC0415 - an extra

    try:
        return await asyncmy.connect(**arguments)  # pyright: ignore[reportUnknownMemberType]
    except RuntimeError as error:  # the login of MySQL 8 without TLS
        if "cryptography" in str(error):
            raise SetupError(
                f"MySQL's login needs cryptography; install it with: {how_to_install('mysql')}"
            ) from error
        raise


async def _connect_preferring_tls(**arguments: Any) -> Any:  # noqa: ANN401 - a driver's
    from asyncmy.errors import OperationalError  # noqa: PLC0415 - an extra

    try:
        return await _connect_asyncmy(**arguments)
    except OperationalError as error:
        if not isinstance(error.__cause__, ssl.SSLError):
            raise
    # A server without TLS answers with an error, which is no TLS, where TLS should begin.
    return await _connect_asyncmy(**{**arguments, "ssl": None})


def _open_files(name: str, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    try:
        return make()
    except OSError:  # which ssl.SSLError is, too
        raise _refuse(name, "no certificates can be read there", "a file of PEM") from None


def _take_cache_size(texts: Texts) -> int:
    given = [_read_count(texts.pop(name)) for name in _STATEMENT_CACHES if name in texts]
    return max(given, default=0)


def _take_seconds(texts: Texts, name: str, most: float) -> float:
    text = texts.pop(name, None)
    if text is None:
        return most
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise _refuse(name, "no number of seconds", "a number above 0")
    return min(seconds, most)


def _read_count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InvalidRequestError("a size is no number", field="url", allowed="digits")
    return int(text)


def _read_boolean(name: str, text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise _refuse(name, "neither true nor false", "true, false")
    return _BOOLEANS[text.lower()]


def _check_names(
    texts: Texts,
    known: frozenset[str] | set[str] | tuple[str, ...],
    driver: str,
    allowed: list[str] | tuple[str, ...],
) -> None:
    for name in texts:
        if name not in known:
            raise _refuse(name, f"{driver} knows no such parameter", ", ".join(allowed))


def _refuse(name: str, reason: str, allowed: str) -> InvalidRequestError:
    shown = name if _NAME.fullmatch(name) else "a parameter"
    return InvalidRequestError(f"{shown}: {reason}", field="url", allowed=allowed)

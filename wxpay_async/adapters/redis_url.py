"""Check, read and redact the address of a Redis, for the store and for the quota; no redis-py.

One server, a Unix socket, and as other tools write them, those that Sentinel or a cluster names:

- `redis://user:password@host:6379/0`, with TLS `rediss://...`
- `unix:///path/redis.sock?db=0`
- `redis+sentinel://host:26379,host:26379/service/0`, with TLS `rediss+sentinel://...`; user and
  password are those of the Redis, `?sentinel_username=` and `?sentinel_password=` the Sentinels'
- `redis+cluster://host:6379,host:6379`, with TLS `rediss+cluster://...`

All may carry options of redis-py's connections, as `?ssl_ca_certs=/path/ca.pem`.
"""

from __future__ import annotations

# redis-py reads an address with `urllib.parse`, so the check does, too. yarl reads some addresses
# differently: it takes the port `6_3` for 63, and raises an IndexError for `redis://[]@`.
import re
from typing import Final
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from wxpay_async.errors import InvalidRequestError

REDIS_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

# Not by `urlsplit`: that takes no list of hosts with an IPv6 address in it.
_PARTS: Final = re.compile(
    r"(?P<scheme>[^:]*)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)


@frozen(kw_only=True)
class RedisAddress:
    """Where a Redis is.

    Attributes:
        scheme: one of `REDIS_SCHEMES`.
        hosts: names and ports; those of Sentinels, or of some nodes of a cluster. None for a
            socket.
        service: what the Sentinels call the master.
        single: the address of one server with the same login, database and options, as redis-py
            reads it.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    single: str = field(repr=False)

    @property
    def by_sentinel(self) -> bool:
        """Whether Sentinels say where the Redis is."""
        return self.scheme.endswith("+sentinel")

    @property
    def clustered(self) -> bool:
        """Whether it is a cluster."""
        return self.scheme.endswith("+cluster")


def read_redis_url(url: str) -> RedisAddress:
    """Read the address of a Redis.

    Raises:
        InvalidRequestError: it is none. It is not repeated, since it may hold a password.
    """
    try:
        return _read(url)
    except ValueError:
        raise InvalidRequestError(
            "no address of a Redis",
            field="url",
            allowed="redis://host:port/0, rediss://..., unix:///path,"
            " redis+sentinel://host:port,host:port/service/0 or redis+cluster://host:port,host:port",
        ) from None


def check_redis_url(url: str) -> str:
    """Return the address of a Redis unchanged.

    Raises:
        InvalidRequestError: it is none. It is not repeated, since it may hold a password.
    """
    read_redis_url(url)
    return url


def redact_redis_url(url: str) -> str:
    """Return a checked address without user, password and parameters."""
    address = read_redis_url(url)
    hosts = ",".join(f"{_bracket(host)}:{port}" for host, port in address.hosts)
    return f"{address.scheme}://{hosts}{_split(url)['path']}"


def _read(url: str) -> RedisAddress:
    parts = _split(url)
    scheme, login = parts["scheme"], parts["login"]
    if scheme not in REDIS_SCHEMES:
        raise ValueError
    if scheme == "unix":
        if not parts["path"].strip("/") or parts["hosts"]:
            raise ValueError
        return RedisAddress(scheme=scheme, hosts=(), single=url)
    default = _SENTINEL_PORT if scheme.endswith("+sentinel") else _PORT
    listed = parts["hosts"].split(",") if "+" in scheme else [parts["hosts"]]
    hosts = tuple(_read_host(host, default) for host in listed)
    service, path = _read_path(scheme, parts["path"])
    host, port = hosts[0]
    plain = scheme.partition("+")[0]
    single = f"{plain}://{login}{_bracket(host)}:{port}{path}{parts['rest']}"
    urlsplit(single)
    return RedisAddress(scheme=scheme, hosts=hosts, service=service, single=single)


def _split(url: str) -> dict[str, str]:
    found = _PARTS.fullmatch(url)
    if found is None:
        raise ValueError
    parts = {name: value or "" for name, value in found.groupdict().items()}
    login = f"{found['login']}@" if found["login"] is not None else ""
    return parts | {"scheme": parts["scheme"].lower(), "login": login}


def _read_host(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0 or parts.netloc != text:
        raise ValueError
    return parts.hostname, parts.port or default


def _read_path(scheme: str, path: str) -> tuple[str, str]:
    """Return the name of the service, and the path with the database alone."""
    names = path.strip("/").split("/")
    if scheme.endswith("+cluster"):  # a cluster has the database 0 alone
        if names not in ([""], ["0"]):
            raise ValueError
        return "", ""
    if not scheme.endswith("+sentinel"):
        return "", path
    service, *database = names
    if not service or (database and not (len(database) == 1 and database[0].isdecimal())):
        raise ValueError
    return unquote(service), "".join(f"/{number}" for number in database)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host

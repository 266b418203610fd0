"""Where the tests find the servers that they need, and what happens where one is absent.

An address comes from the environment, else it is the service's usual port on loopback. A test whose
service does not answer is skipped and says so; with CI=true or WXPAY_TEST_REQUIRE_SERVICES=1 it
fails, because a suite that skips half of itself proves nothing.
"""

from __future__ import annotations

import os
import socket
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest


@attrs.frozen(kw_only=True)
class Service:
    """A server that tests need.

    Attributes:
        name: what people call it.
        variable: the environment variable that holds its address.
        default: the address without that variable; tests may create and drop databases there.
        port: where it listens if the address does not say.
    """

    name: str
    variable: str
    default: str
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return os.environ.get(self.variable) or self.default

    @property
    def address(self) -> tuple[str, int]:
        """Its host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or self.port


POSTGRES: Final = Service(
    name="PostgreSQL",
    variable="WXPAY_TEST_POSTGRES_URL",
    default="postgresql://postgres@127.0.0.1:5432/postgres",
    port=5432,
)
MYSQL: Final = Service(
    name="MariaDB or MySQL",
    variable="WXPAY_TEST_MYSQL_URL",
    default="mysql://root@127.0.0.1:3306/mysql",
    port=3306,
)
REDIS: Final = Service(
    name="Redis",
    variable="WXPAY_TEST_REDIS_URL",
    default="redis://127.0.0.1:6379/0",
    port=6379,
)
RABBITMQ: Final = Service(
    name="RabbitMQ",
    variable="WXPAY_TEST_RABBITMQ_URL",
    default="amqp://guest:guest@127.0.0.1:5672/",
    port=5672,
)


def require(service: Service) -> str:
    """Return the service's address; skip or fail the test if nothing answers there."""
    host, port = service.address
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError as error:
        absent(f"no {service.name} at {host}:{port} ({error}); {service.variable} names another")
    return service.url


def absent(reason: str) -> None:
    """Skip the test visibly, or fail it where every service is required."""
    if os.environ.get("CI") == "true" or os.environ.get("WXPAY_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)

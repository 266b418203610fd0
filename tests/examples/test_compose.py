"""The file for Docker Compose: its form, and what it names. No engine runs here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml
from typer.testing import CliRunner

from wxpay_async import PayGateway
from wxpay_async.cli.commands_local import app

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "examples" / "compose.yml"
SERVICES: Final = ("postgres", "sandbox", "shop")
KEYS: Final = {
    *("image", "build", "command", "environment", "ports", "volumes", "healthcheck", "depends_on"),
    "network_mode",
}
PUBLISHED: Final = re.compile(r"127\.0\.0\.1:\d+:\d+")


@cache
def read_file() -> dict[str, Any]:
    """Return the whole file."""
    return cast("dict[str, Any]", yaml.safe_load(FILE.read_text(encoding="utf-8")))


def find_service(name: str) -> dict[str, Any]:
    """Return a service."""
    return cast("dict[str, Any]", read_file()["services"][name])


def test_file_has_a_sandbox_a_database_and_a_shop() -> None:
    """And volumes for what they keep."""
    document = read_file()
    volumes = [each for name in SERVICES for each in find_service(name)["volumes"]]
    mounted = {each.partition(":")[0] for each in volumes}
    assert {"name", "services", "volumes"} == set(document)
    assert set(SERVICES) == set(document["services"])
    assert mounted == set(document["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_known_keys_and_is_published_on_loopback_only(name: str) -> None:
    """Its passwords are in the file: no other machine may reach it."""
    service = find_service(name)
    assert set(service) <= KEYS
    assert len({"image", "build"} & set(service)) == 1
    assert all(PUBLISHED.fullmatch(port) for port in service.get("ports", []))


def test_every_service_has_a_health_check() -> None:
    """In the file, or in the Dockerfile that it is built from."""
    for name in SERVICES:
        service = find_service(name)
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][0] == "CMD"
            assert {"test", "interval", "timeout", "retries"} == set(service["healthcheck"])
        else:
            dockerfile = ROOT / service["build"]["dockerfile"]
            assert "\nHEALTHCHECK " in dockerfile.read_text(encoding="utf-8")


def test_shop_waits_for_the_health_of_the_others() -> None:
    """They answer before it begins."""
    waited = find_service("shop")["depends_on"]
    assert {"postgres": "service_healthy", "sandbox": "service_healthy"} == {
        name: each["condition"] for name, each in waited.items()
    }


def test_sandbox_is_given_options_that_it_has() -> None:
    """And calls the shop, which shares its loopback, at the port that the shop listens on."""
    command: list[str] = find_service("sandbox")["command"]
    shown = CliRunner().invoke(app, ["sandbox", "--help"], env={"COLUMNS": "200"}).output
    assert all(word in shown for word in command if word.startswith("--"))
    assert "service:sandbox" == find_service("shop")["network_mode"]
    assert f"http://127.0.0.1:{find_service('shop')['environment']['PORT']}/notify" in command


async def test_shop_is_given_settings_that_a_gateway_takes() -> None:
    """The secret and the login are those of the other services."""
    settings = find_service("shop")["environment"]
    login = find_service("postgres")["environment"]
    given = find_service("sandbox")["command"]
    assert settings["WXPAY_APP_SECRET"] == given[given.index("--app-secret") + 1]
    user, password, name = (login[f"POSTGRES_{each}"] for each in ("USER", "PASSWORD", "DB"))
    assert f"postgresql://{user}:{password}@postgres:5432/{name}" == settings["WXPAY_STORE_URL"]
    async with PayGateway.from_env({**settings, "WXPAY_STORE_URL": "memory://"}) as gateway:
        assert "127.0.0.1:8080" in repr(gateway)


def test_shop_is_built_from_what_is_there() -> None:
    """From the root of the repository."""
    build = find_service("shop")["build"]
    context = (FILE.parent / build["context"]).resolve()
    copied = re.findall(r"^COPY (.+) \S+$", build["dockerfile_inline"], re.MULTILINE)
    assert ROOT == context
    assert len(copied) == 3
    assert all((context / name).exists() for line in copied for name in line.split())

"""The settings as they are read: origin, problems, and a sandbox's beside the real platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from wxpay_async import PRODUCTION, TEST
from wxpay_async.cli.doctor.findings import CONFIGURATION, Finding, Status
from wxpay_async.cli.doctor.settings import Setup, describe_path, read_setup

SECRET = "canary-secret-0123456789"
SOUND = {"WXPAY_APP_KEY": "gmd930ea5d5a258f4f", "WXPAY_APP_SECRET": SECRET}
LOOPBACK = {"WXPAY_BASE_URL": "http://127.0.0.1:9"}
SANDBOX = {"WXPAY_APP_KEY": "sandbox-app-key", "WXPAY_APP_SECRET": SECRET}


def read(variables: dict[str, str], **options: str) -> Setup:
    """Read variables of the environment, and options that win over them."""
    return read_setup(variables | options, variables)


def find(setup: Setup, name: str) -> Finding:
    """Return the line of a variable."""
    return next(line for line in setup.findings if line.name == name)


def list_failed(setup: Setup) -> list[str]:
    """Return the names of the lines that failed."""
    return [line.name for line in setup.findings if line.status is Status.FAILED]


# What is there, and where it comes from


def test_each_setting_tells_where_it_comes_from() -> None:
    """An option, the environment, a default: and what the default is."""
    setup = read(SOUND, WXPAY_BASE_URL="http://127.0.0.1:9")
    assert [] == list_failed(setup)
    assert "gmd930ea5d5a258f4f (environment)" == find(setup, "WXPAY_APP_KEY").text
    assert "http://127.0.0.1:9 (option)" == find(setup, "WXPAY_BASE_URL").text
    assert "not set (default: no proxy)" == find(setup, "WXPAY_PROXY").text
    assert {"option", "environment", "default"} == {line.facts["origin"] for line in setup.findings}
    assert (
        f"not set (default: production, {PRODUCTION})" == find(read(SOUND), "WXPAY_BASE_URL").text
    )


def test_secrets_are_told_as_set_and_no_more() -> None:
    """Whatever they are for; addresses that hold passwords have none of it."""
    setup = read(
        {
            **SOUND,
            **LOOPBACK,
            "WXPAY_SEAL_KEY": "0f" * 32,
            "WXPAY_FORMER_SECRETS": SECRET[::-1],
            "WXPAY_PROXY": f"http://user:{SECRET}@127.0.0.1:3128",
            "WXPAY_STORE_URL": f"postgresql://u:{SECRET}@127.0.0.1/db",
        }
    )
    assert [] == list_failed(setup)
    for name in ("WXPAY_APP_SECRET", "WXPAY_SEAL_KEY", "WXPAY_FORMER_SECRETS", "WXPAY_STORE_URL"):
        assert "set (environment)" == find(setup, name).text
    assert "http://127.0.0.1:3128, with a login (environment)" == find(setup, "WXPAY_PROXY").text
    shown = repr(setup) + str([line.to_json() for line in setup.findings])
    assert SECRET not in shown
    assert SECRET[::-1] not in shown


# What cannot be used


@pytest.mark.parametrize(
    ("variables", "name", "words"),
    [
        ({"WXPAY_APP_KEY": ""}, "WXPAY_APP_KEY", "not set"),
        ({"WXPAY_APP_SECRET": ""}, "WXPAY_APP_SECRET, WXPAY_APP_SECRET_FILE, ", "not set"),
        ({"WXPAY_BASE_URL": "http://example.com"}, "WXPAY_BASE_URL", "plain HTTP"),
        ({"WXPAY_BASE_URL": f"https://u:{SECRET}@h"}, "WXPAY_BASE_URL", "not the address"),
        ({"WXPAY_PROXY": f"socks5://u:{SECRET}@h"}, "WXPAY_PROXY", "no HTTP proxy"),
        ({"WXPAY_ALLOW_INSECURE": "perhaps"}, "WXPAY_ALLOW_INSECURE", "not known"),
        ({"WXPAY_KEY_FILE_MODE": "0600"}, "WXPAY_KEY_FILE_MODE", "not known"),
        ({"WXPAY_SEAL_KEY": SECRET}, "WXPAY_SEAL_KEY", "cannot be used"),
        ({"WXPAY_APP_SECRET": f'"{SECRET}"'}, "WXPAY_APP_SECRET", "in quotes"),
        ({"WXPAY_PRIVATE_KEY_FILE": "m.pem"}, "WXPAY_APP_SECRET, WXPAY_PRIVATE", "set together"),
    ],
)
def test_setting_that_cannot_be_used_is_a_failure_with_advice(
    variables: dict[str, str], name: str, words: str
) -> None:
    """The value is not repeated: it may be a secret."""
    setup = read({**SOUND, **LOOPBACK, **variables})
    failed = [line for line in setup.findings if line.status is Status.FAILED]
    assert 1 == len(failed)
    assert failed[0].name.startswith(name)
    assert words in failed[0].text
    assert failed[0].advice
    assert CONFIGURATION == failed[0].exit_code
    assert setup.parts is None
    assert SECRET not in str([line.to_json() for line in setup.findings])


def test_several_problems_are_lines_of_their_own() -> None:
    """All can be mended at once."""
    setup = read({"WXPAY_BASE_URL": "ftp://h", "WXPAY_ALLOW_INSECURE": "perhaps"})
    assert 4 == len(list_failed(setup))
    assert setup.base_url is None


@pytest.mark.parametrize("name", ["WXPAY_APP_SECRET", "WXPAY_SEAL_KEY"])
def test_secret_in_the_place_of_the_app_key_is_a_failure_and_not_shown(name: str) -> None:
    """It would be sent with every call."""
    setup = read({**SOUND, **LOOPBACK, name: "0f" * 32, "WXPAY_APP_KEY": "0f" * 32})
    assert ["WXPAY_APP_KEY"] == list_failed(setup)
    assert "0f0f" not in str([line.to_json() for line in setup.findings])


def test_app_key_that_looks_like_a_secret_is_a_warning_and_not_shown() -> None:
    """The two may be swapped, and then this is the secret."""
    setup = read({**SOUND, **LOOPBACK, "WXPAY_APP_KEY": "192006250b4c09247ec02edce69f6a2d"})
    line = find(setup, "WXPAY_APP_KEY")
    assert Status.WARNING is line.status
    assert "swapped" in line.advice
    assert "192006" not in str(line.to_json())


# A sandbox's settings and the real platform


@pytest.mark.parametrize(
    "variables",
    [
        SANDBOX,
        {**SANDBOX, "WXPAY_BASE_URL": "production"},
        {**SANDBOX, "WXPAY_BASE_URL": "test"},
        {**SOUND, "WXPAY_PAY_PUBLIC_KEY": "MIIB"},
        {**SOUND, "WXPAY_PLATFORM_KEY_FILE": "/tmp/sandbox-platform.pem"},
    ],
)
def test_sandbox_settings_for_the_platform_are_a_failure(variables: dict[str, str]) -> None:
    """Also where nothing but the address was forgotten."""
    setup = read(variables)
    assert ["sandbox"] == list_failed(setup)
    assert not setup.safe
    line = find(setup, "sandbox")
    assert ("WXPAY_BASE_URL is not set" in line.text) is ("WXPAY_BASE_URL" not in variables)
    assert "wxpay-async sandbox" in line.advice
    assert SECRET not in str(line.to_json())


@pytest.mark.parametrize("url", [PRODUCTION, TEST])
def test_rest_of_a_sandbox_beside_an_address_is_a_warning(url: str) -> None:
    """The address was chosen, and the appKey is no sandbox's."""
    setup = read({**SOUND, "WXPAY_BASE_URL": url, "WXPAY_PAY_PUBLIC_KEY": "MIIB"})
    assert (Status.WARNING, True) == (find(setup, "sandbox").status, setup.safe)


@pytest.mark.parametrize("variables", [{**SANDBOX, **LOOPBACK}, SOUND])
def test_settings_that_belong_together_say_nothing_of_a_sandbox(variables: dict[str, str]) -> None:
    """A sandbox on loopback, and a merchant's own at the platform."""
    setup = read(variables)
    assert setup.safe
    assert "sandbox" not in {line.name for line in setup.findings}


# What is set and not read


def test_variable_that_nothing_reads_is_a_warning_with_the_name_that_is_meant() -> None:
    """Its value is not shown: it may be the secret."""
    setup = read({**SOUND, **LOOPBACK, "WXPAY_APPSECRET": SECRET, "WXPAY_TEST_REDIS_URL": "x"})
    line = find(setup, "WXPAY_APPSECRET")
    assert (Status.WARNING, "perhaps WXPAY_APP_SECRET is meant") == (line.status, line.advice)
    assert "WXPAY_TEST_REDIS_URL" not in {each.name for each in setup.findings}


def test_proxy_of_the_system_is_a_warning_for_another_host_only() -> None:
    """Requests do not go through it, and nothing tells so otherwise."""
    system = {"https_proxy": f"http://u:{SECRET}@127.0.0.1:3128"}
    line = find(read({**SOUND, **system}), "https_proxy")
    assert (Status.WARNING, True) == (line.status, "WXPAY_PROXY" in line.advice)
    for more in (LOOPBACK, {"WXPAY_PROXY": "http://127.0.0.1:3128"}):
        names = {each.name for each in read({**SOUND, **system, **more}).findings}
        assert "https_proxy" not in names


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("merchant.pem", True),
        ("/run/secrets/merchant", True),
        ("./merchant", True),
        ("192006250b4c09247ec02edce69f6a2d", False),
        ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC/Kcwg+gSjAgEAAoIB=", False),
        ("-----BEGIN PRIVATE KEY-----\nMII", False),
        (f"/{'x' * 2000}", False),
    ],
)
def test_path_is_shown_unless_it_looks_like_a_secret(value: str, *, shown: bool) -> None:
    """A secret that was taken for the path of its file is no path."""
    assert shown is (describe_path(value) == value)


def test_path_of_a_file_is_shown_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, so it is a path."""
    monkeypatch.chdir(tmp_path)
    Path("merchantkey").touch()
    assert ("merchantkey", False) == (
        describe_path("merchantkey"),
        describe_path("otherkey") == "otherkey",
    )

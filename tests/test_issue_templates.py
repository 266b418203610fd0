"""What is asked of those who open an issue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / ".github" / "ISSUE_TEMPLATE"
both_forms = pytest.mark.parametrize("name", ["bug", "feature"])


def load_body(name: str) -> list[dict[str, Any]]:
    """Return the parts of a form."""
    form = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    body: list[dict[str, Any]] = form["body"]
    return body


@both_forms
def test_form_asks_for_the_version(name: str) -> None:
    """It cannot be sent without one."""
    [version] = [part for part in load_body(name) if part.get("id") == "version"]

    assert version["validations"]["required"]
    assert "wxpay-async --version" in version["attributes"]["description"]


@both_forms
def test_form_warns_of_secrets_first(name: str) -> None:
    """Before anything can be pasted."""
    first = load_body(name)[0]

    assert "markdown" == first["type"]
    warning = first["attributes"]["value"]
    assert "Never paste secrets" in warning
    secrets = ("appSecret", "private key", "payToken", "openid", "signature")
    assert [] == [secret for secret in secrets if secret not in warning]

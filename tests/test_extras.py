"""How to install an extra: from where the package came, and never by its bare name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from wxpay_async.extras import how_to_install

CHECKOUT = "pip install '.[sql]'  # in a checkout of wxpay-async"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put metadata of the package before all others, and return their folder."""
    folder = tmp_path / "wxpay_async-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: wxpay-async\nVersion: 9\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (
            {"url": "file:///src/wx", "dir_info": {}},
            "pip install '/src/wx[sql]'",
        ),
        (
            {"url": "file:///my%20src/wx", "dir_info": {"editable": True}},
            "pip install -e '/my src/wx[sql]'",
        ),
        (
            {
                "url": "https://git.example/wx.git",
                "vcs_info": {"vcs": "git", "commit_id": "0a1b", "requested_revision": "main"},
            },
            "pip install 'wxpay-async[sql] @ git+https://git.example/wx.git@0a1b'",
        ),
        (
            {"url": "file:///dist/wxpay_async-9-py3-none-any.whl", "archive_info": {"hash": "h"}},
            "pip install 'wxpay-async[sql] @ file:///dist/wxpay_async-9-py3-none-any.whl'",
        ),
        ({"url": "https://of.another/form"}, CHECKOUT),
        (["of another form"], CHECKOUT),
    ],
)
def test_extra_is_installed_from_where_the_package_came(
    installed: Path, record: object, command: str
) -> None:
    """From a folder, a repository or a file, as the installer recorded it."""
    (installed / "direct_url.json").write_text(json.dumps(record))
    assert command == how_to_install("sql")


@pytest.mark.usefixtures("installed")
def test_extra_of_a_package_without_a_record_is_installed_from_a_checkout() -> None:
    """An index records nothing, and which index it was is not known."""
    assert CHECKOUT == how_to_install("sql")


def test_extra_of_a_package_that_is_not_installed_is_installed_from_a_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs from a folder on the path."""
    monkeypatch.setattr("sys.path", [])
    assert CHECKOUT == how_to_install("sql")

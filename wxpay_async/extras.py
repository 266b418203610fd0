"""Say how to install an optional extra from where the package itself came.

No text tells people to install the bare name: it is not ours on the public index, so an index may
have another program under it.
"""

from __future__ import annotations

import shlex
from typing import Final

_DISTRIBUTION: Final = "wxpay-async"


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra.

    pip and its kin record where they took a package from, unless that was an index. Without a
    record the command is for a checkout, which a comment in it says.
    """
    # Imported here: only a message about something missing needs them.
    import json  # noqa: PLC0415 - as said above
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - as said above

    try:
        record = distribution(_DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:  # it runs from a folder on the path
        record = None
    place = _find_place(json.loads(record), extra) if record else None
    return place or f"pip install '.[{extra}]'  # in a checkout of {_DISTRIBUTION}"


def _find_place(origin: object, extra: str) -> str | None:
    """Return the command for a record (PEP 610), None if it has another form."""
    match origin:
        case {"url": str(url), "dir_info": {"editable": True}}:
            return f"pip install -e {_quote_folder(url, extra)}"
        case {"url": str(url), "dir_info": dict()}:
            return f"pip install {_quote_folder(url, extra)}"
        case {"url": str(url), "vcs_info": {"vcs": str(kind), "commit_id": str(commit)}}:
            return _install_from(f"{kind}+{url}@{commit}", extra)
        case {"url": str(url), "archive_info": dict()}:
            return _install_from(url, extra)
        case _:
            return None


def _quote_folder(url: str, extra: str) -> str:
    from urllib.parse import urlsplit  # noqa: PLC0415 - as in `how_to_install`
    from urllib.request import url2pathname  # noqa: PLC0415 - as in `how_to_install`

    return shlex.quote(f"{url2pathname(urlsplit(url).path)}[{extra}]")


def _install_from(url: str, extra: str) -> str:
    return f"pip install {shlex.quote(f'{_DISTRIBUTION}[{extra}] @ {url}')}"

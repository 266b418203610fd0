"""The command line: `wxpay-async demo | sandbox | trade | pay | query | refund | merchants`.

`program` says what the commands share and how they end, `screen` how things are shown; the commands
are in `client` (they need a platform) and `local` (they bring their own).
"""

import sys

try:
    # A command is there once its module was imported.
    from wxpay_async.cli import commands_client as commands_client, commands_local as commands_local
    from wxpay_async.cli.main import main as main
except ImportError as missing:  # pragma: no cover - a test runs it in a process of its own
    if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
        raise
    sys.stderr.write('error: the command line needs: pip install "wxpay-async[cli]"\n')
    raise SystemExit(2) from None

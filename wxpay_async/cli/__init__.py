"""Provide the command `wxpay-async`: single calls, batches, a sandbox, and the tables of a store.

`main` holds the program and its exit codes, `options` what several commands take, `output` how
results are printed. The commands are in `commands_client` (they make one call), `batching` (they
work on a file), `commands_local` (they start a platform), `commands_store` (they write SQL),
`commands_keys` (they make and show RSA keys), `commands_sign` (they explain signatures),
`commands_doctor` (it says what is wrong) and `commands_doubts` (they show what is open).

Showing a help text is quick because the heavy parts, the gateway, the sandbox and the demo, are
imported when a command needs them. In Chinese, `help_texts` puts its texts in place of the English.
"""

import sys

try:
    # Importing a module of commands registers them.
    from wxpay_async.cli import (
        batching as batching,
        commands_client as commands_client,
        commands_doctor as commands_doctor,
        commands_doubts as commands_doubts,
        commands_keys as commands_keys,
        commands_local as commands_local,
        commands_sign as commands_sign,
        commands_store as commands_store,
    )
    from wxpay_async.cli.main import main as main
except ImportError as missing:  # pragma: no cover - a test runs it in a process of its own
    if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
        raise
    from wxpay_async.extras import how_to_install

    sys.stderr.write(f"error: the command line needs: {how_to_install('cli')}\n")
    raise SystemExit(2) from None

"""Runs as `python -m wxpay_async.cli` what is installed as `wxpay-async`."""

from wxpay_async.cli import main

if __name__ == "__main__":
    main()

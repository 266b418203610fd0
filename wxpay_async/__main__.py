"""Run `python -m wxpay_async` like the installed command `wxpay-async`."""

from wxpay_async.cli import main

if __name__ == "__main__":
    main()

"""Show a person what the sandbox does, in a browser: console, cashier, request log."""

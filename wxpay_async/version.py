"""The version of the package, which the build, the command line and requests tell."""

from typing import Final

__version__: Final = "0.1.0"

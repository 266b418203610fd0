"""The version of the package, which the build, the command line and requests tell."""

__version__ = "0.2.0"

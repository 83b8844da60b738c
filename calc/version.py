"""The version of this package, apart from the package itself so that every module may read it."""

__version__ = "0.1.0"

"""The release of drmaa-python whose interface this package has. jobyard's own release is ``jobyard.__version__``."""

__all__ = ["VERSION", "__version__"]

__version__ = "0.7.9"
VERSION = tuple(int(part) for part in __version__.split("."))

"""The version of the PSI/J Python interface that this package provides (not that of jobyard)."""

VERSION = "0.9.11"

"""Not provided: importing it raises ImportError, which says what there is instead."""

from ._absent import explained

raise ImportError(explained("gc3libs.session"), name="gc3libs.session")

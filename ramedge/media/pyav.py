"""What differs between the supported versions of PyAV."""

from __future__ import annotations

from typing import Any, Final

import av

_KEEPS_TAG_BYTES: Final = 19
"""From this version on, PyAV keeps tags that are not UTF-8 and has no option for it."""


def tag_options() -> dict[str, Any]:
    """Arguments for `av.open`, so that tags that are not UTF-8 pass through byte for byte.

    They are read as text with surrogate escapes, and written as the bytes that they were.
    """
    if int(av.__version__.partition(".")[0]) >= _KEEPS_TAG_BYTES:
        return {}
    return {"metadata_errors": "surrogateescape"}

"""requests as this room needs it: without its guesser of character sets.

That weighs 1.4 MB and is asked only for the `.text` of an answer that names no character set; the
room reads JSON. requests goes on without it by design, and would warn.
"""

import sys
import warnings
from types import ModuleType
from typing import cast

_GUESSER = "charset_normalizer"


def import_requests() -> None:
    """To be called before anything imports it; does nothing where it was imported."""
    if "requests" in sys.modules or _GUESSER in sys.modules:
        return
    sys.modules[_GUESSER] = cast("ModuleType", None)  # as if it were not installed
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
            import requests  # noqa: F401
    finally:
        del sys.modules[_GUESSER]

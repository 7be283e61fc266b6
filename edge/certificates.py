"""Whose certificates the box believes: the system's, read when https is first spoken, and once.

aiohttp reads them all while it is imported, twice: 1.8 MB that a box whose server stands in the
house never has a use for.
"""

import os
import ssl
from functools import cache


def import_aiohttp() -> None:
    """Import it without a certificate at hand. Only who says `ssl=trust_for(url)` gets through."""
    names = ssl.get_default_verify_paths()
    kept = {
        name: os.environ.get(name) for name in (names.openssl_cafile_env, names.openssl_capath_env)
    }
    os.environ.update(dict.fromkeys(kept, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in kept.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def trust_for(url: str) -> ssl.SSLContext | bool:
    """What aiohttp wants for `ssl=`."""
    return _system() if url.startswith(("https:", "wss:")) else True


@cache
def _system() -> ssl.SSLContext:
    return ssl.create_default_context()

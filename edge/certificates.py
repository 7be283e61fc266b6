"""Whose certificates the box believes: the system's, read when https is first spoken, and once.

aiohttp reads them all while it is imported, twice: 1.8 MB that a box whose server stands in the
house never has a use for.
"""

import os
import ssl
import threading
from functools import cache

_NONE_AT_HAND = threading.Lock()  # held while there is none, so that nobody reads them then


def import_aiohttp() -> None:
    """To be called before anything imports it, and costs nothing again.

    No certificate is at hand meanwhile: only who says `ssl=trust_for(url)` gets through.
    """
    with _NONE_AT_HAND:
        _import_aiohttp()


def _import_aiohttp() -> None:
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
    with _NONE_AT_HAND:
        return ssl.create_default_context()

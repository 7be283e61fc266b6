"""Forgetting everything, or only the password, however often the power fails meanwhile."""

import asyncio
from pathlib import Path

from edge.agent_api.reset import (
    CLAIMED,
    FACTORY_RESET,
    RESET_PASSWORD,
    forget_password_if_wished,
    wipe_if_wished,
    wish_factory_reset,
)


class Documents:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    async def delete(self, name: str) -> None:
        self.deleted.append(name)


def test_a_factory_reset_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"CANARY")
    (tmp_path / "zwave").mkdir()
    (tmp_path / "zwave" / "copy.nvm").write_bytes(b"CANARY")
    (tmp_path / CLAIMED).touch()
    wish_factory_reset(tmp_path)
    assert wipe_if_wished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reset_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    """The wish is the last file to go."""
    (tmp_path / FACTORY_RESET).touch()
    (tmp_path / "zzz").write_bytes(b"what an earlier try did not reach")
    assert wipe_if_wished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_wiped_unasked(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"kept")
    assert not wipe_if_wished(tmp_path)
    assert (tmp_path / "state.db").exists()


async def test_a_forgotten_password_forgets_claim_and_sessions_only(tmp_path: Path) -> None:
    (tmp_path / RESET_PASSWORD).touch()
    (tmp_path / CLAIMED).touch()
    (tmp_path / "buffer.db").write_bytes(b"kept")
    documents = Documents()
    assert await forget_password_if_wished(tmp_path, documents)
    assert documents.deleted == ["claim", "sessions"]
    left = await asyncio.to_thread(lambda: [path.name for path in tmp_path.iterdir()])
    assert left == ["buffer.db"]

"""edge.documents.Documents in memory: the tests' stand-in for edge.store.settings.Settings."""

import asyncio
import json
from typing import Any


class PaperNotebook:
    """Keeps `pages` as JSON would; others get their turn at each call, as with the real ones."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.writes = 0

    async def get(self, name: str) -> Any:
        await asyncio.sleep(0)
        return json.loads(json.dumps(self.pages.get(name)))

    async def put(self, name: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.pages[name] = json.loads(json.dumps(value))
        self.writes += 1

    async def delete(self, name: str) -> None:
        await asyncio.sleep(0)
        self.pages.pop(name, None)

    async def names(self) -> list[str]:
        return sorted(self.pages)

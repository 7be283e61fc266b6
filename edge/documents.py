"""What the rooms above the store need of store/settings.py, so that tests can stand in for it."""

from typing import Any, Protocol


class Documents(Protocol):
    """JSON under a name, on the card when put() returns."""

    async def get(self, name: str) -> Any:
        """The document, or None where there is none."""

    async def put(self, name: str, value: Any) -> None:
        """Keep value in place of what there was."""

    async def delete(self, name: str) -> None:
        """Forget the document; it need not exist."""

    async def names(self) -> list[str]:
        """The names of all documents."""

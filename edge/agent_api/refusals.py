"""Refusals the page puts into the visitor's own words: each has a code, and HTTP's status."""

from edge.errors import Refused


class NotAllowed(Refused):
    """`code` is a key of the page's catalogue (problem.…)."""

    def __init__(self, code: str, status: int, text: str = "") -> None:
        super().__init__(text or code)
        self.code = code
        self.status = status


class TooManyTries(NotAllowed):
    """Come back after `retry_after_s`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too_many_tries", 429)
        self.retry_after_s = retry_after_s

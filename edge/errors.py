"""Everything that can go wrong, once.

    EdgeError
      Unreachable   the other side is away: keep what we have, pause, try again
        NotStarted  it is a service of this box: asking again soon costs next to nothing
      Refused       a person must act: not paired, wrong password, no rights
      Malformed     the other side said something we cannot read
      ConfigFault   the box was told something impossible; names every fault at once
      StoreBroken   the ground under every part: end the process, systemd starts it afresh

The message is the sentence a person reads, so it says what to do next.
"""


class EdgeError(Exception):
    """A failure the box expects. Anything else is a bug."""


class Unreachable(EdgeError):
    """The other side is away or silent."""


class NotStarted(Unreachable):
    """A service of this box is not there, or not yet: systemd starts it once it can."""


class Refused(EdgeError):
    """The other side understood and said no; trying again changes nothing until a person acts."""


class Malformed(EdgeError):
    """The other side said something we cannot read. `sample` holds its first words."""

    def __init__(self, message: str, sample: str = "") -> None:
        super().__init__(message)
        self.sample = sample[:200]


class ConfigFault(EdgeError):
    """Settings that cannot be followed; `faults` lists all of them."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class StoreBroken(EdgeError):
    """A database can neither be used nor set aside."""


def first_error(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that counts of what a TaskGroup raised: a bug comes before an expected failure."""
    expected, bugs = several.split(EdgeError)
    first: BaseException = bugs or expected or several
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first

"""A factory reset, asked for on the page: leaves the reset file on the first partition, restarts.

The first code of the next start does the rest, before anything of the old box is in use.
"""

import sys

from edge.appliance import card
from edge.appliance.update import restart


def main() -> int:
    with card.mounted(card.FIRST, writable=True) as first:
        (first / "edge-reset-factory").touch()
    restart(trial=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

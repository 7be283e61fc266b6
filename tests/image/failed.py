"""The modules in which something failed last time, for `make image-test AGAIN=1`.

Whole modules: the tests of one go on with the same board, one after the other.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
LAST_FAILED = PROJECT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main() -> None:
    kept = json.loads(LAST_FAILED.read_text()) if LAST_FAILED.exists() else {}
    here = str(HERE.relative_to(PROJECT))
    modules = {name.partition("::")[0] for name in kept if name.startswith(f"{here}/")}
    print(*sorted(modules) or [here])


if __name__ == "__main__":
    main()

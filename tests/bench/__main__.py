"""`make bench`: figures beside the peers', one section after the other; none is asserted on.

python -m tests.bench [SECTION …]; a section is a module of this folder with `async def main()`.
"""

import asyncio
import importlib
import sys

SECTIONS = {
    "page": "tests.bench.page",
    "buffer": "tests.bench.wear",
    "agent": "tests.bench.agent",
    "uplink": "tests.bench.catch_up",
    "control": "tests.bench.control",
    "fleet": "tests.bench.fleet",
    "image": "tests.bench.image",
}


def main(wanted: list[str]) -> None:
    if unknown := set(wanted) - set(SECTIONS):
        sys.exit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in wanted or SECTIONS:
        section = importlib.import_module(SECTIONS[name])
        print(f"\n── {name}: {(section.__doc__ or '').strip().splitlines()[0]}", flush=True)
        try:
            asyncio.run(section.main())
        except RuntimeError as fault:
            sys.exit(f"{name}: {fault}")


if __name__ == "__main__":
    main(sys.argv[1:])

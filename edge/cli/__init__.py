"""The commands of the box: edge agent | setup-page | status | check | pair | curtail | give-back.

Imports lazily: `edge status` must not load what the agent needs, and agent and page do without the
parser of command lines. Errors are one line on standard error that says what to do, and exit code 1
(2 for a wrong command line).
"""

import os
import sys
from pathlib import Path

from edge.errors import ConfigFault, EdgeError

DEFAULT_CONFIG = Path("/etc/edge/agent.toml")

# Read while libraries are imported: zoneinfo asks sysconfig for its folders, frozenlist brings
# libstdc++ for a list of five entries. 1.2 MB of a process that never ends.
LIGHTER = {"PYTHONTZPATH": "/usr/share/zoneinfo", "FROZENLIST_NO_EXTENSIONS": "1"}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except ConfigFault as problem:
        for fault in problem.faults:
            print(f"edge: {fault}", file=sys.stderr)
    except EdgeError as problem:
        print(f"edge: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _run(arguments: list[str]) -> int:
    match arguments:  # as systemd starts them
        case ["agent"]:
            return run_agent(None)
        case ["--config", path, "agent"]:
            return run_agent(Path(path))
        case ["setup-page", "--socket", path]:
            return run_setup_page(Path(path))
    from edge.cli.commands import run

    return run(arguments)


def run_agent(config: Path | None) -> int:
    """Be the resident process until told to stop; `config` as config_path() wants it."""
    os.environ.update(LIGHTER)
    from edge.light import import_pydantic, lighten_dataclasses, uncollected

    with uncollected():
        lighten_dataclasses()
        import_pydantic()
        from edge.agent import main as agent_main
        from edge.config import load

    return agent_main(load(config_path(config)))


def run_setup_page(
    socket: Path,
    port: int | None = None,
    tls_port: int | None = None,
    host: str = "127.0.0.1",
    idle_s: float | None = None,
) -> int:
    """Serve the page for the agent behind `socket`; the rest as serving.run() wants it."""
    from edge.light import import_pydantic, import_uvicorn, lighten_dataclasses, uncollected

    with uncollected():
        lighten_dataclasses()
        import_pydantic()
        import_uvicorn()
        from edge.setup_page.serving import run

    run(socket, port, tls_port, host, idle_s)
    return 0


def config_path(chosen: Path | None) -> Path | None:
    """The settings file: the chosen one, else the usual one if it is there."""
    if chosen is not None:
        return chosen
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None

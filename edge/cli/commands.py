"""Every command with its arguments, and what it does by asking the agent."""

import argparse
from pathlib import Path

from edge import __version__
from edge.cli import DEFAULT_CONFIG, config_path, run_agent, run_setup_page


def run(arguments: list[str]) -> int:
    """Run what the command line says; the exit code. Ends the process where it says nonsense."""
    chosen = _parser().parse_args(arguments)
    return int(chosen.run(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge", description="The box, seen from inside.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config", type=Path, default=None, help=f"settings (default {DEFAULT_CONFIG}, if there)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    agent = commands.add_parser("agent", help="the resident process: meters, buffer, uplink")
    agent.set_defaults(run=lambda chosen: run_agent(chosen.config))

    page = commands.add_parser("setup-page", help="the page a person sees")
    page.add_argument("--socket", type=Path, help="the agent's (default: as the settings say)")
    page.add_argument("--port", type=int, help="listen here, not on systemd's socket")
    page.add_argument("--tls-port", type=int, help="and here by https")
    page.add_argument("--host", default="127.0.0.1")
    page.add_argument("--idle-s", type=float, help="leave after this long without a request")
    page.set_defaults(run=_setup_page)

    status = commands.add_parser("status", help="how the box is doing")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    status.set_defaults(run=_status)

    check = commands.add_parser("check", help="read the settings and say what is wrong with them")
    check.set_defaults(run=_check)

    pair = commands.add_parser("pair", help="connect the box with a FlexMeasures account")
    pair.add_argument("url")
    pair.add_argument("email")
    pair.add_argument("--site", help="name of the site asset to find or create")
    pair.add_argument(
        "--allow-private", action="store_true", help="the server stands in this house"
    )
    pair.set_defaults(run=_pair)

    curtail = commands.add_parser("curtail", help="switch a device off for a while, and on again")
    curtail.add_argument("device", help="its name or key, as edge status shows it")
    curtail.add_argument("duration", help="as 30 (minutes), 30m, 1h or PT30M")
    curtail.set_defaults(run=_curtail)

    give_back = commands.add_parser("give-back", help="let limit and schedule count again")
    give_back.add_argument("device", help="its name or key, as edge status shows it")
    give_back.set_defaults(run=_give_back)
    return parser


def _setup_page(chosen: argparse.Namespace) -> int:
    socket = chosen.socket
    if socket is None:
        from edge.config import load

        socket = load(config_path(chosen.config)).page_socket
    return run_setup_page(socket, chosen.port, chosen.tls_port, chosen.host, chosen.idle_s)


def _check(chosen: argparse.Namespace) -> int:
    from edge.config import load

    load(config_path(chosen.config))
    print("the settings are sound")
    return 0


def _status(chosen: argparse.Namespace) -> int:
    from edge.cli.door import ask
    from edge.cli.status_text import as_text
    from edge.config import load
    from edge.contract import Status

    answer = ask(load(config_path(chosen.config)).own_socket, "GET", "/status", Status)
    print(answer.model_dump_json(indent=1) if chosen.json else as_text(answer))
    return 0


def _pair(chosen: argparse.Namespace) -> int:
    import getpass

    from edge.cli.door import ask
    from edge.config import load
    from edge.contract import PairAnswer, PairRequest

    request = PairRequest(
        url=chosen.url,
        email=chosen.email,
        password=getpass.getpass(f"Password of {chosen.email}: "),
        site=chosen.site,
        allow_private=chosen.allow_private,
    )
    socket = load(config_path(chosen.config)).own_socket
    answer = ask(socket, "POST", "/flexmeasures/pair", PairAnswer, request)
    print(f"paired with FlexMeasures {answer.server_version}; {answer.sensors} sensors are fed")
    return 0


def _curtail(chosen: argparse.Namespace) -> int:
    from edge.cli.door import ask
    from edge.cli.duration import minutes_from
    from edge.config import load
    from edge.contract.control import CurtailAnswer, CurtailRequest

    request = CurtailRequest(device=chosen.device, minutes=minutes_from(chosen.duration))
    socket = load(config_path(chosen.config)).own_socket
    answer = ask(socket, "POST", "/control/curtail", CurtailAnswer, request)
    print(f"{answer.name} is curtailed until {answer.until:%H:%M:%S} UTC")
    return 0


def _give_back(chosen: argparse.Namespace) -> int:
    from edge.cli.door import ask
    from edge.config import load
    from edge.contract import Done
    from edge.contract.control import DeviceRequest

    request = DeviceRequest(device=chosen.device)
    socket = load(config_path(chosen.config)).own_socket
    print(ask(socket, "POST", "/control/give-back", Done, request).text)
    return 0

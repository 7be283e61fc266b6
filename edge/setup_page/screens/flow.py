"""The order of the set-up, which a visitor may leave and enter at any point."""

from fastapi import Request

from edge.contract.page import Standing


def next_step(standing: Standing) -> str:
    """Where somebody who has just come in goes on."""
    if not standing.paired:
        return "/flexmeasures"
    if not standing.mapped:
        return "/map" if standing.meters else "/meters"
    return "/live"


def step_while_new(request: Request, number: int) -> int | None:
    """The step to show on top: none once the set-up is done."""
    return None if request.state.standing.live else number

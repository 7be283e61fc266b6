"""The screens, one file each: they read forms, ask the agent and pick a template."""

from typing import Annotated

from fastapi import Depends

from edge.setup_page.agent_link import Caller
from edge.setup_page.view import View, caller, signed_in, view_of

type SignedIn = Annotated[Caller, Depends(signed_in)]
type Anybody = Annotated[Caller, Depends(caller)]
type TheView = Annotated[View, Depends(view_of)]

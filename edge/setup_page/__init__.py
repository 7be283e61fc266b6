"""The page a person sees. Holds no secret and no store: everything comes from the agent."""

from pydantic import BaseModel

# FastAPI brings models of an OpenAPI document that nobody asks for here; the page's own are built
# when they are first used.
BaseModel.model_config["defer_build"] = True

"""The page a person sees. Holds no secret and no store: everything comes from the agent."""

from pydantic import BaseModel

# FastAPI brings the models of an OpenAPI document, which nobody asks for here: unbuilt they are an
# eighth of a start less, and 1.3 MB.
BaseModel.model_config["defer_build"] = True
import fastapi.openapi.models  # noqa: E402, F401

del BaseModel.model_config["defer_build"]

"""How templates become text. The image holds them compiled: reading their source takes a tenth of
the time in which the page starts. Without that they are compiled when first asked for."""

from pathlib import Path

import jinja2

FOLDER = Path(__file__).parent / "templates"
COMPILED = FOLDER / "compiled"


def environment(compiled: Path = COMPILED) -> jinja2.Environment:
    """All templates, from `compiled` where they are there."""
    found = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = jinja2.FileSystemLoader(FOLDER)
    found.loader = (
        jinja2.ChoiceLoader([jinja2.ModuleLoader(compiled), sources])
        if compiled.exists()
        else sources
    )
    return found


def compile_all(target: Path) -> None:
    """Write each template as a Python module, for who builds the image."""
    environment(target).compile_templates(target, zip=None)

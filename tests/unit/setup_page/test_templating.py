"""What the image holds of the templates says the same as their source."""

from pathlib import Path

from edge.setup_page.templating import FOLDER, compile_all, environment

WORDS = {
    "t": lambda key, **_: key,
    "asset": lambda name: f"/{name}",
    "languages": {"en": "English"},
}


def test_compiled_templates_are_read_instead_of_their_source(tmp_path: Path) -> None:
    target = tmp_path / "compiled"
    compile_all(target)
    assert len(list(target.glob("*.py"))) == len(list(FOLDER.glob("*.html")))
    compiled = environment(target).get_template("away.html")
    assert compiled.filename is not None
    assert Path(compiled.filename).parent == target


def test_compiled_page_reads_as_its_source_does(tmp_path: Path) -> None:
    target = tmp_path / "compiled"
    compile_all(target)
    facts = WORDS | {"lang": "en", "path": "/<", "front": None, "standing": None, "said": "<&"}
    from_source, from_compiled = (
        environment(folder).get_template("away.html").render(**facts)
        for folder in (tmp_path / "none", target)
    )
    assert from_compiled == from_source
    assert "&lt;&amp;" in from_source

"""Every word in every language, and every key that is used exists."""

import re
import string
from pathlib import Path

import pytest

from edge.setup_page.languages import FOLDER, LANGUAGES, Words, catalogue, choose

ROOM = FOLDER.parent
KEY = re.compile(r"""\bt\(\s*["']([a-z0-9_.-]+)["']\s*[,)]""")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_every_text_exists_in_every_language_with_the_same_values(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    assert set(english) == set(other)
    assert {k: fields(v) for k, v in english.items()} == {k: fields(v) for k, v in other.items()}


def test_every_key_a_template_uses_exists() -> None:
    used = {
        key for path in (ROOM / "templates").rglob("*.html") for key in KEY.findall(_read(path))
    }
    assert used
    assert used <= set(catalogue("en"))


def test_templates_hold_no_text_of_their_own() -> None:
    for path in (ROOM / "templates").rglob("*.html"):
        page = re.sub(r"{[{%#].*?[}%#]}", " ", _read(path), flags=re.DOTALL)
        bare = re.sub(r"<[^>]*>|[\w-]+=\"[^\"]*\"", " ", page, flags=re.DOTALL)
        assert re.findall(r"[A-Za-z]{3,}", bare) == [], path.name


def test_no_inline_script_or_style_in_any_template() -> None:
    for path in (ROOM / "templates").rglob("*.html"):
        text = _read(path)
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|hx-on|\|\s*safe\b", text), (
            path
        )


def test_the_browsers_first_language_that_we_have_is_chosen() -> None:
    assert choose(None, "fr-BE, nl-BE;q=0.9, en;q=0.5") == "nl"
    assert choose(None, "de") == "de"
    assert choose(None, "fr") == "en"
    assert choose("de", "nl") == "de"
    assert choose("xx", "en;q=abc, nl;q=0.1") == "nl"


def test_numbers_are_written_as_the_language_does() -> None:
    assert Words("en").power(1234.5) == "1.23 kW"
    assert Words("nl").power(1234.5) == "1,23 kW"
    assert Words("de").power(-950) == "−950 W"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")

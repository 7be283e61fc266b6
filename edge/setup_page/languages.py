"""Every word of the page, by key: one JSON file per language in locale/. No text in code.

The visitor's browser chooses, or a cookie set with the links at the foot of the page.
"""

import json
from functools import cache
from pathlib import Path

from edge.setup_page import sentences

FOLDER = Path(__file__).parent / "locale"
LANGUAGES = {"en": "English", "nl": "Nederlands", "de": "Deutsch"}
FALLBACK = "en"
_GROUPED_FROM = 10_000
_DECIMAL_COMMA = frozenset({"nl", "de"})


class Words:
    """The catalogue of one language, called as `t(key, name=value)` in templates."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key`; for a count of one its own form, where it has one. Raises KeyError:
        a test calls every key that a template uses."""
        text = self._texts[key]
        if not values:
            return text
        if values.get("count") == 1:
            text = self._texts.get(f"{key}.one", text)
        return text.format(**{name: self._written(value) for name, value in values.items()})

    def knows(self, key: str) -> bool:
        return key in self._texts

    def first(self, *keys: str, otherwise: str = "", **values: object) -> str:
        """The text of the first key that exists; else `otherwise`, as the agent said it."""
        for key in keys:
            if key in self._texts:
                return self(key, **values)
        return otherwise

    def number(self, value: float, digits: int = 0) -> str:
        """`value` as the language writes it: 1,234.5 or 1.234,5."""
        text = f"{value:,.{digits}f}".replace("-", "−")
        if self.language not in _DECIMAL_COMMA:
            return text
        return text.translate(str.maketrans(",.", ".,"))

    def _written(self, value: object) -> object:
        """Long numbers as the language groups them."""
        is_long = isinstance(value, int) and abs(value) >= _GROUPED_FROM
        return self.number(value) if is_long else value  # type: ignore[arg-type]

    def power(self, value_w: float) -> str:
        """Watts below one kilowatt, kilowatts above."""
        if abs(value_w) < 1000:
            return f"{self.number(value_w)} W"
        return f"{self.number(value_w / 1000, 2)} kW"

    def value(self, value: float | None, unit: str) -> str:
        """A measured value with its unit; a dash where there is none."""
        if value is None:
            return "–"
        if unit == "W":
            return self.power(value)
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        return f"{self.number(value, digits)} {unit}".rstrip()

    def detail(self, key: str, value: object) -> str:
        """A fact about a device: a word we know, yes or no, a number without needless digits."""
        if isinstance(value, bool):
            return self("yes" if value else "no")
        if isinstance(value, float):
            return self.number(value, 0 if value == int(value) else 1)
        return self.first(f"device.{key}.{value}", otherwise=str(value))

    def clock(self, seconds: float) -> str:
        """A countdown: 4:05, or 1:04:05."""
        minutes, rest = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

    def sentence(self, text: str) -> str:
        """A sentence of the box itself in this language; empty for what others said."""
        return sentences.translated(text, self.language) if text else ""

    def energy(self, value_kwh: float) -> str:
        return f"{self.number(value_kwh, 1)} kWh"

    def refusal(self, problem: Exception) -> str:
        """Why something was refused, in this language where the reason has a code."""
        code = getattr(problem, "code", "away")
        said = getattr(problem, "text", "") or str(problem)
        translated = self.sentence(said)
        if code == "invalid" and translated:
            return translated
        said = translated or said
        known = self.first(f"problem.{code}", otherwise=said or self("problem.fault"))
        return f"{known} {said}" if known.endswith(":") else known

    def age(self, seconds: float) -> str:
        """How long ago, in the largest unit that fits."""
        for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * length_s:
                return self(f"age.{unit}", count=int(seconds // length_s))
        return self("age.seconds", count=int(seconds))

    def span(self, seconds: float) -> str:
        """A length of time, in the largest unit that fits."""
        for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * length_s:
                return self(f"span.{unit}", count=round(seconds / length_s))
        return self("span.seconds", count=int(seconds))


@cache
def catalogue(language: str) -> dict[str, str]:
    """All texts of one language; those of a device family lie in one file for all languages."""
    found = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    for family in sorted((FOLDER / "families").glob("*.json")):
        found |= json.loads(family.read_text(encoding="utf-8"))[language]
    return {str(key): str(text) for key, text in found.items()}


def choose(cookie: str | None, accept_language: str) -> str:
    """The first language we have: the visitor's choice, then the browser's (RFC 9110 12.5.4)."""
    if cookie in LANGUAGES:
        return str(cookie)
    wanted: list[tuple[float, str]] = []
    for part in accept_language[:200].split(","):
        tag, _, weight = part.partition(";q=")
        try:
            rank = float(weight) if weight else 1.0
        except ValueError:
            rank = 0.0
        wanted.append((-rank, tag.strip().lower().partition("-")[0]))
    for _, language in sorted(wanted, key=lambda each: each[0]):
        if language in LANGUAGES:
            return language
    return FALLBACK

"""Nothing the box says reaches a person in a language they did not choose."""

import json
import re

import pytest

from edge.control.decide import WHY
from edge.plausibility import Reason
from edge.setup_page import sentences
from edge.setup_page.languages import LANGUAGES, Words, catalogue
from edge.uplink.flexibility import WORDS_OF_SCHEDULERS, why_no_schedule
from tests.unit.setup_page import spoken

PLACE = re.compile(r"{\w+}")
OTHERS = [each for each in LANGUAGES if each != "en"]
KNOWN: dict[str, dict[str, str]] = json.loads(sentences.FILE.read_text(encoding="utf-8"))
# Nothing but what somebody else said: shown as their words.
QUOTED = {"§", "§: §"}


def test_every_sentence_of_the_agent_has_its_translations() -> None:
    missing = {
        f"{found.place}: {found.text}"
        for found in spoken.sentences()
        if found.text not in QUOTED and not sentences.translated(found.text, "nl")
    }
    assert missing == set(), "to be added to edge/setup_page/locale/sentences.json"


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_places_of_its_sentence(language: str) -> None:
    for pattern, by_language in KNOWN.items():
        places, translated = PLACE.findall(pattern), PLACE.findall(by_language[language])
        assert set(translated) <= set(places), pattern
        assert len(places) == len(set(places)), pattern


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_of_a_refusal_has_its_text(language: str) -> None:
    known = catalogue(language)
    assert {code for code in spoken.codes() if f"problem.{code}" not in known} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_decision_and_of_a_doubt_has_its_text(language: str) -> None:
    known = catalogue(language)
    assert {why for why in WHY if f"control.why.{why}" not in known} == set()
    assert {
        str(reason) for reason in Reason if f"aside.{str(reason).replace(' ', '_')}" not in known
    } == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_event_has_its_text(language: str) -> None:
    known = catalogue(language)
    kinds = spoken.event_kinds()
    assert {"claim", "command", "update"} <= kinds
    keys = {f"event.{re.sub('[ -]', '_', kind)}" for kind in kinds}
    assert keys - set(known) == set()


def test_what_stands_in_a_sentence_is_translated_too() -> None:
    said = "it could not be switched on yet: the stick is busy; wait a minute and try again"
    assert sentences.translated(said, "de") == (
        "es konnte noch nicht eingeschaltet werden: "
        "der Stick ist beschäftigt; warten Sie eine Minute und versuchen Sie es wieder"
    )


def test_what_others_said_stays_as_they_said_it() -> None:
    words = Words("nl")
    assert words.sentence("ECONNREFUSED 127.0.0.1") == ""
    assert words.sentence("FlexMeasures says: no beliefs after 2020") == (
        "FlexMeasures zegt: no beliefs after 2020"
    )


def test_several_faults_are_translated_one_by_one() -> None:
    said = "smappee: username is missing; smappee: password is missing"
    assert sentences.translated(said, "de") == "smappee: username fehlt; smappee: password fehlt"


def test_english_is_left_as_it_is_said() -> None:
    said = "the stick is busy; wait a minute and try again"
    assert Words("en").sentence(said) == said


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("cause", WORDS_OF_SCHEDULERS)
def test_why_there_is_no_schedule_is_translated_whole(cause: str, language: str) -> None:
    told = why_no_schedule(f"FlexMeasures says: job failed with {cause}")
    translation = sentences.translated(told, language)
    assert WORDS_OF_SCHEDULERS[cause] not in translation
    assert f"job failed with {cause}" in translation

"""What the agent is asked after somebody filled in the map of what leaves the house."""

from starlette.datastructures import FormData

from edge.contract.setup import ChannelView, MapView
from edge.setup_page.screens import mapping

CLAMP = "homeassistant/a/b/active_power/import"
KNOWN = MapView(
    rows=[],
    channels=[
        ChannelView(
            key=CLAMP,
            device="Clamp",
            name="",
            quantity="active_power",
            unit="W",
            direction="import",
            value=None,
            age_s=None,
            repeats=True,
        )
    ],
    sensors=[],
)


def test_sum_that_was_added_is_still_there_when_a_refused_form_is_confirmed() -> None:
    """Sending a meter twice is refused first; the form comes back with a box to tick."""
    added = mapping._new_row(FormData({"new.name": "Twice", f"new.term.{CLAMP}": "+"}), KNOWN)
    assert added is not None
    shown = FormData(
        {
            f"{added.ident}.name": added.name,
            f"{added.ident}.send": "yes",
            f"{added.ident}.sensor": "",
            f"{added.ident}.term.{CLAMP}": "+",
            "twice": "yes",
        }
    )
    [again] = mapping._sums_shown_again(shown, KNOWN)
    assert mapping._row(shown, again, KNOWN) == added
    known = KNOWN.model_copy(update={"rows": [added]})
    assert mapping._sums_shown_again(shown, known) == []

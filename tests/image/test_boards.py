"""Other boards."""

from pathlib import Path

from tests.image.conftest import Built
from tests.image.machine import Card, Pi3

PI3_PATIENCE_S = 2400.0  # four slow cores on two


def test_an_emulated_pi_3_starts_from_its_card_and_answers(built: Built, tmp_path: Path) -> None:
    card = Card.flash(built.card, tmp_path / "card.img", 2048)  # its card slot wants a power of two
    with Pi3(card, tmp_path) as box:
        seconds = box.wait_for_page(PI3_PATIENCE_S)
        print(f"\n  Pi 3B: page after {seconds:.0f} s")
        model = box.run("tr -d '\\0' </proc/device-tree/model")
        assert model == "Raspberry Pi 3 Model B"
        state = box.try_run("timeout 1200 systemctl is-system-running --wait", 1220)[1]
        failed = box.run("systemctl list-units --failed --no-legend --plain --no-pager")
        assert state.splitlines()[-1] == "running", f"{state}: {failed}"

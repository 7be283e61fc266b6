"""Other boards, and cards that are too small for comfort."""

from pathlib import Path

from tests.image.conftest import Built
from tests.image.machine import Card, Machine, Pi3

PI3_PATIENCE_S = 1200.0  # four slow cores on two


def test_an_emulated_pi_3_starts_from_its_card_and_answers(built: Built, tmp_path: Path) -> None:
    card = Card.flash(built.card, tmp_path / "card.img", 2048)  # its card slot wants a power of two
    with Pi3(card, tmp_path) as box:
        seconds = box.wait_for_page(PI3_PATIENCE_S)
        print(f"\n  Pi 3B: page after {seconds:.0f} s")
        model = box.run("tr -d '\\0' </proc/device-tree/model")
        assert model == "Raspberry Pi 3 Model B"
        state = box.try_run("timeout 600 systemctl is-system-running --wait", 620)[1]
        failed = box.run("systemctl list-units --failed --no-legend --plain --no-pager")
        assert state.splitlines()[-1] == "running", f"{state}: {failed}"


def test_a_full_card_stops_neither_the_start_nor_the_agent(built: Built, tmp_path: Path) -> None:
    card = Card.flash(built.card, tmp_path / "card.img", 1280)
    with Machine(card, tmp_path) as box:
        box.wait_until("systemctl is-active edge-agent.service")
        box.run("dd if=/dev/zero of=/data/fill bs=64k 2>/dev/null; sync; df /data | tail -1")
        box.pull_the_plug()
        box.power_on()
        box.wait_until("systemctl is-active edge-agent.service")
        assert box.wait_for_page() > 0
        status = box.run("edge status")
        assert "not paired" in status
        box.run("rm /data/fill; sync")
        box.wait_until("systemctl is-active edge-agent.service")

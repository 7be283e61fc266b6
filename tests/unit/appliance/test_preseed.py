"""A person's wishes for the first start: taken exactly, or refused by name and never by value."""

import tomllib
from pathlib import Path

import pytest

from edge.appliance.preseed import from_edge_toml, from_imager, without_secrets
from edge.errors import ConfigFault

FULL = """
name = "attic"
claim_code = "CANARY-code"
stick = "/dev/serial/by-id/usb-Some_Stick-if00"
[wifi]
network = "Home; sweet \\\\home "
password = "CANARY-wifi"
country = "NL"
[flexmeasures]
url = "https://company.example"
email = "box@example.com"
password = "CANARY-account"
"""
EXAMPLE = Path(__file__).parents[3] / "image" / "boot" / "edge.toml.example"


def test_every_wish_is_taken() -> None:
    wanted = from_edge_toml(FULL)
    assert wanted.name == "attic"
    assert wanted.stick == "/dev/serial/by-id/usb-Some_Stick-if00"
    assert wanted.for_agent() == {
        "claim_code": "CANARY-code",
        "flexmeasures": {
            "url": "https://company.example",
            "email": "box@example.com",
            "password": "CANARY-account",
        },
    }


def test_wifi_becomes_a_connection_with_its_odd_characters() -> None:
    wifi = from_edge_toml(FULL).wifi
    assert wifi is not None
    lines = wifi.as_connection().splitlines()
    assert r"ssid=Home\; sweet \\home\s" in lines
    assert "psk=CANARY-wifi" in lines


def test_an_account_without_a_claim_code_is_refused() -> None:
    text = FULL.replace('claim_code = "CANARY-code"', "")
    with pytest.raises(ConfigFault, match="claim_code"):
        from_edge_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        'name = "Not A Name"',
        'naem = "typo"',
        'claim_code = "short"',
        'stick = "/dev/../etc/CANARY"',
        '[wifi]\nnetwork = "x"\npassword = "CANARY"\ncountry = "nl"',
        "claim_code = CANARY",
    ],
)
def test_faults_name_the_field_and_never_the_value(text: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        from_edge_toml(text)
    assert "CANARY" not in str(caught.value)


def test_what_stays_on_the_card_has_no_secret() -> None:
    left = without_secrets(FULL)
    assert "CANARY" not in left
    assert tomllib.loads(left)["name"] == "attic"


def test_the_example_is_valid_once_its_marks_are_removed() -> None:
    lines = EXAMPLE.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("# name"))
    text = "\n".join(line.removeprefix("# ") for line in lines[begin:])
    text = text.replace("/dev/serial/by-id/…", "/dev/serial/by-id/usb-stick")
    assert from_edge_toml(text).flexmeasures is not None


def test_imagers_wishes_are_read_and_its_script_never_run() -> None:
    wanted = from_imager(
        "#!/bin/bash\nrm -rf /\n"
        "if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then\n"
        "   /usr/lib/raspberrypi-sys-mods/imager_custom set_hostname Attic\n"
        "   /usr/lib/raspberrypi-sys-mods/imager_custom set_wlan  -h 'Kari'\\''s net' "
        "'9a7837a03fa21d29884982d409ee46a7dd6a1e67e201f70b9c2a1f6ca40ad48b' 'CZ'\n"
        "   /usr/lib/raspberrypi-sys-mods/imager_custom set_wlan 'broken\n"
    )
    assert wanted.name == "attic"
    assert wanted.wifi is not None
    assert (wanted.wifi.network, wanted.wifi.country) == ("Kari's net", "CZ")
    assert wanted.wifi.hidden

"""The small programs of the image: the doors, the clock, the release list, backups, the card."""

import http.server
import json
import os
import ssl
import threading
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.appliance import (
    card,
    door,
    healthy,
    release,
    result,
    update,
    usb_backup,
    web_time,
)
from edge.appliance.identity import Places

PLACES = Places(Path("/nonexistent"))
README = Path(__file__).parents[3] / "systemd" / "README.md"
BOX = {"board": "pi", "version": 100}


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"act": "format-card"}', '{"act": 1}', "x" * 99])
def test_what_is_not_an_act_is_refused(said: str) -> None:
    answer = door.answer(said, PLACES)
    assert answer["ok"] is False


@pytest.mark.parametrize(
    "request_of",
    [{"act": "name", "name": "a b; reboot"}, {"act": "stick", "device": "/etc/passwd"}],
)
def test_impossible_wishes_are_refused(request_of: dict[str, str]) -> None:
    assert door.answer(json.dumps(request_of), PLACES)["ok"] is False


def test_a_missing_field_is_said_without_a_value() -> None:
    assert "KeyError" in door.answer('{"act": "name"}', PLACES)["text"]


def test_the_name_is_kept(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert door.answer('{"act": "name", "name": "attic"}', places)["ok"] is True
    assert (tmp_path / "hostname").read_text() == "attic\n"


def test_every_act_is_documented() -> None:
    text = README.read_text()
    for act in door.ACTS:
        assert f"`{act}`" in text, act


def test_networks_with_colons_are_read() -> None:
    assert door._terse(r"a\:b\\c:70:WPA2") == ["a:b\\c", "70", "WPA2"]


def test_the_date_of_a_web_server_is_read() -> None:
    found = web_time.date_of("Mon, 23 Nov 2026 05:00:00 GMT")
    assert found == datetime(2026, 11, 23, 5, tzinfo=UTC)
    assert web_time.date_of("yesterday") is None


def test_only_verified_servers_are_asked_for_the_time(tmp_path: Path) -> None:
    (tmp_path / "sources").write_text("http://plain.example\nhttps://good.example\n\n")
    found = web_time.addresses(tmp_path / "sources", tmp_path / "absent")
    assert found == ["https://good.example"]


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ("Sun, 01 Jan 2040 00:00:00 GMT", True),  # this machine's clock is far from there
        ("Mon, 23 Nov 2026 05:00:00 GMT", False),  # before the certificate was issued
        ("Sun, 01 Jan 2045 00:00:00 GMT", False),
    ],
)
def test_a_date_counts_within_its_certificates_years_whatever_our_clock_says(
    tmp_path: Path, said: str, believed: bool
) -> None:
    class Clock(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(404)
            self.send_header("Date", said)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    issued = datetime(2039, 1, 1, tzinfo=UTC)
    certificate = a_certificate(tmp_path, issued, issued.replace(year=2041))
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with http.server.HTTPServer(("127.0.0.1", 0), Clock) as server:
        server.socket = listening.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        found = web_time.ask(f"https://127.0.0.1:{server.server_address[1]}/", trusting)
        thread.join()
    assert (found is not None) == believed


def a_certificate(folder: Path, begins: datetime, ends: datetime) -> Path:
    """A self-signed one for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clock")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, ends)
    signed = made.add_extension(here, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path = folder / "clock.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, form, plain))
    return path


def test_only_a_newer_release_for_this_board_is_fetched() -> None:
    listed = {"pi": {"version": 101}, "toaster": {"version": 999}}
    assert release.newest_for(json.dumps(listed).encode(), BOX) == {"version": 101}
    assert release.newest_for(b'{"pi": {"version": 100}}', BOX) is None
    assert release.newest_for(b'{"toaster": {"version": 999}}', BOX) is None


def test_a_release_address_without_encryption_is_refused(tmp_path: Path) -> None:
    (tmp_path / "box").write_text(json.dumps(BOX))
    with pytest.raises(ValueError, match="https"):
        release.fetch("http://plain.example/", tmp_path / "box", tmp_path)


def test_backups_are_kept_for_some_generations(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for made in range(20):
        (folder / f"backup-{made:02}").touch()
    latest = tmp_path / "latest"
    latest.write_text("new")
    usb_backup.keep(latest, folder)
    kept = sorted(path.name for path in folder.iterdir())
    assert len(kept) == usb_backup.GENERATIONS
    assert any((folder / name).read_text() == "new" for name in kept)


def test_a_tried_system_that_died_without_a_word_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "update" / "result.json"
    result.note_return(on_trial=False, path=path)
    assert not path.exists()
    result.note({"release": "new", "outcome": "trying", "text": ""}, path)
    result.note_return(on_trial=True, path=path)
    assert json.loads(path.read_text())["outcome"] == "trying"
    assert (path.parent / "trying").exists()  # else a start would not look
    result.note_return(on_trial=False, path=path)
    assert json.loads(path.read_text())["outcome"] == "gone back"
    assert not (path.parent / "trying").exists()
    result.note({"release": "new", "outcome": "installed", "text": ""}, path)
    result.note_return(on_trial=False, path=path)
    assert json.loads(path.read_text())["outcome"] == "installed"


def test_the_agent_may_read_what_became_of_an_update(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        result.note({"release": "", "outcome": "refused", "text": "no"}, tmp_path / "result.json")
    finally:
        os.umask(before)
    assert (tmp_path / "result.json").stat().st_mode & 0o777 == 0o644


def test_the_next_start_is_written_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "autoboot.txt").write_text(card.autoboot("a"))
    card.start_with(tmp_path, "b")
    text = (tmp_path / "autoboot.txt").read_text()
    assert text.index("boot_partition=3") < text.index("[tryboot]") < text.index("boot_partition=2")
    assert [path.name for path in tmp_path.iterdir()] == ["autoboot.txt"]


def test_the_image_starts_with_system_a() -> None:
    shipped = Path(__file__).parents[3] / "image" / "boot" / "autoboot.txt"
    assert shipped.read_text() == card.autoboot("a")


def test_a_box_that_is_not_on_trial_never_gives_way() -> None:
    update.give_way()  # card.TRIAL does not exist on this machine: nothing is restarted


def test_silence_is_unhealthy(tmp_path: Path) -> None:
    assert "does not answer" in healthy.agent_fault(tmp_path / "no.sock")


def test_a_page_that_sends_visitors_on_is_healthy_and_one_that_fails_is_not() -> None:
    status = 303

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_as_a_browser = "text/html" in self.headers["Accept"]
            self.send_response(status if asked_as_a_browser else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.server_address[1]
            assert healthy.page_fault("127.0.0.1", port) == ""
            status = 500
            assert "500" in healthy.page_fault("127.0.0.1", port)
        finally:
            server.shutdown()
            thread.join()

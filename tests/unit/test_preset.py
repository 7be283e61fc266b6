"""What the card was prepared with becomes a secret of the box, once."""

import json
from pathlib import Path

from edge.credentials import Credentials
from edge.preset import ACCOUNT, CLAIM_CODE, FILE, take_preset

ACCOUNT_WISH = {"url": "https://company.example", "email": "box@example.com", "password": "CANARY"}


def test_code_and_account_become_secrets_and_the_file_goes(tmp_path: Path) -> None:
    wished = {"claim_code": "CANARY-code", "flexmeasures": ACCOUNT_WISH}
    (tmp_path / FILE).write_text(json.dumps(wished))
    credentials = Credentials(tmp_path / "credentials.json", bytes(32))
    take_preset(tmp_path, credentials)
    assert credentials.get(CLAIM_CODE) == "CANARY-code"
    assert json.loads(credentials.get(ACCOUNT) or "") == ACCOUNT_WISH
    assert not (tmp_path / FILE).exists()
    assert "CANARY" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_without_a_prepared_card_nothing_is_kept(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "credentials.json", bytes(32))
    take_preset(tmp_path, credentials)
    assert credentials.names() == []


def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{half")
    take_preset(tmp_path, Credentials(tmp_path / "credentials.json", bytes(32)))

"""What the support bundle tells of starts that are over."""

import gzip
from pathlib import Path

from edge.agent_api.log_tail import kept_logs


def test_logs_kept_over_restarts_are_read(tmp_path: Path) -> None:
    (tmp_path / "last-boot.log.gz").write_bytes(gzip.compress("the end ☂\n".encode()))
    (tmp_path / "boot.log.gz.new").write_text("not a log")
    assert kept_logs(tmp_path) == {"last-boot.log": "the end ☂\n"}


def test_a_log_that_a_power_cut_left_half_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "boot.log.gz").write_bytes(gzip.compress(b"lines " * 1000)[:30])
    (tmp_path / "last-boot.log.gz").write_bytes(gzip.compress(b"whole"))
    found = kept_logs(tmp_path)
    assert "cannot be read" in found["boot.log"]
    assert found["last-boot.log"] == "whole"


def test_a_machine_that_keeps_none_has_none(tmp_path: Path) -> None:
    assert kept_logs(tmp_path / "absent") == {}

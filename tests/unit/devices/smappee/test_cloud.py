"""smappy's faults, each contained at our door."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import smappy

from edge.devices.smappee.cloud import Account, Login, Patience
from edge.errors import Malformed, Refused, Unreachable
from tests.house.fake_clock import FakeClock
from tests.house.smappee_cloud import (
    CLIENT_ID,
    CLIENT_SECRET,
    LOCATION,
    PASSWORD,
    USERNAME,
    Fault,
    SmappeeCloud,
)
from tests.house.trusted_certificate import trusted_certificate


class House:
    def __init__(self, cloud: SmappeeCloud, base_url: str, clock: FakeClock) -> None:
        self.cloud, self.base_url, self.clock = cloud, base_url, clock

    def account(self, password: str = PASSWORD, version: str = "v3", **patience: float) -> Account:
        login = Login(f"{self.base_url}/{version}/", CLIENT_ID, USERNAME, CLIENT_SECRET, password)
        return Account(login, self.clock, Patience(**patience))

    def log_ins(self) -> list[str]:
        return [
            "password" if "grant_type=password" in asked.body else "refresh"
            for asked in self.cloud.asked("/oauth2/token")
        ]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = FakeClock()
    cloud = SmappeeCloud(clock.wall_now)
    async with cloud.serve() as base_url:
        yield House(cloud, base_url, clock)


def locations(smappee: Any) -> Any:
    return smappee.get_service_locations()["serviceLocations"]


@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_logs_in_by_itself_in_either_version(house: House, version: str) -> None:
    [place] = await house.account(version=version).ask(locations)
    assert place["serviceLocationId"] == LOCATION
    assert ("serviceLocationUuid" in place) == (version == "v3")
    assert all(f"/dev/{version}/" in asked.path for asked in house.cloud.log)


@pytest.mark.parametrize("is_vouched_for", [True, False])
async def test_password_is_told_by_https_to_whom_the_box_believes(
    tmp_path: Path, is_vouched_for: bool
) -> None:
    heard: list[bytes] = []

    def answer(listening: socket.socket, certificate: ssl.SSLContext) -> None:
        line, _ = listening.accept()
        with suppress(OSError), certificate.wrap_socket(line, server_side=True) as whispering:
            heard.append(whispering.recv(65536))
            whispering.sendall(
                b"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            while whispering.recv(65536):  # closed with words unread, the answer would be lost
                pass
        line.close()

    login = "https://127.0.0.1:{}/dev/v3/", CLIENT_ID, USERNAME, CLIENT_SECRET, PASSWORD
    with trusted_certificate(tmp_path) as certificate, ExitStack() as stack:
        if not is_vouched_for:
            stack.enter_context(trusted_certificate(tmp_path))  # another
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = login[0].format(listening.getsockname()[1])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(answer, listening, certificate))
            with pytest.raises(Refused if is_vouched_for else Unreachable):
                await Account(Login(url, *login[1:]), FakeClock()).ask(locations)
    assert len(heard) == is_vouched_for


async def test_wrong_password_is_refused_in_words(house: House) -> None:
    with pytest.raises(Refused, match="enter them again"):
        await house.account(password="wrong").ask(locations)


async def test_token_is_renewed_before_it_ends(house: House) -> None:
    account = house.account()
    await account.ask(locations)
    await house.clock.advance(house.cloud.token_life)
    await account.ask(locations)
    assert house.log_ins() == ["password", "refresh"]
    assert len(house.cloud.refresh_tokens) == 1


async def test_token_revoked_before_its_time_is_renewed_at_the_401(house: House) -> None:
    account = house.account()
    await account.ask(locations)
    house.cloud.revoke_tokens()
    await account.ask(locations)
    assert house.log_ins() == ["password", "refresh"]


async def test_dead_refresh_token_falls_back_to_the_password(house: House) -> None:
    account = house.account()
    await account.ask(locations)
    house.cloud.revoke_tokens()
    house.cloud.refresh_tokens.clear()
    await account.ask(locations)
    assert house.log_ins() == ["password", "refresh", "password"]


async def test_changed_password_asks_for_the_person(house: House) -> None:
    account = house.account()
    await account.ask(locations)
    house.cloud.revoke_tokens()
    house.cloud.refresh_tokens.clear()
    house.cloud.password = "changed on the website"
    with pytest.raises(Refused):
        await account.ask(locations)


async def test_fresh_token_refused_again_is_not_asked_for_ever(house: House) -> None:
    account = house.account()
    house.cloud.faults += [Fault(401, where="servicelocation"), Fault(401, where="servicelocation")]
    with pytest.raises(Refused):
        await account.ask(locations)
    assert len(house.cloud.log) == 4


@pytest.mark.parametrize("days", [-4000, 4000])
async def test_wall_clock_that_jumps_neither_renews_nor_trusts_a_dead_token(
    house: House, days: int
) -> None:
    began = house.clock.wall_now()
    house.cloud.now = lambda: began + timedelta(milliseconds=house.clock.boottime_ms())
    account = house.account()
    await account.ask(locations)
    house.clock.step_wall(timedelta(days=days))
    await account.ask(locations)
    assert house.log_ins() == ["password"]
    refused = len(house.cloud.log)
    await house.clock.advance(house.cloud.token_life)
    await account.ask(locations)
    assert house.log_ins() == ["password", "refresh"]
    assert len(house.cloud.log) == refused + 2  # the dead token was not even tried


async def test_questions_at_once_renew_the_token_once(house: House) -> None:
    account = house.account()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(account.ask(locations))
    await house.clock.advance(house.cloud.token_life)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(account.ask(locations))
    assert house.log_ins() == ["password", "refresh"]


async def test_server_that_takes_and_never_answers_is_given_up(house: House) -> None:
    account = house.account(silence_s=0.1)
    house.cloud.faults.append(Fault(silent=True))
    with pytest.raises(Unreachable):
        await account.ask(locations)


async def test_call_that_outlasts_everything_is_given_up_and_the_next_waits_its_turn(
    house: House,
) -> None:
    account = house.account(silence_s=0.4, call_s=0.1)
    house.cloud.faults.append(Fault(silent=True))
    with pytest.raises(Unreachable, match="in time"):
        await account.ask(locations)


async def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    login = Login(f"http://127.0.0.1:{port}/dev/v3/", CLIENT_ID, USERNAME, CLIENT_SECRET, PASSWORD)
    with pytest.raises(Unreachable):
        await Account(login, FakeClock()).ask(locations)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_trouble_of_the_cloud_is_waited_out(house: House, status: int) -> None:
    house.cloud.faults.append(Fault(status, where="servicelocation"))
    with pytest.raises(Unreachable, match=str(status)):
        await house.account().ask(locations)


async def test_retry_after_is_obeyed_without_asking(house: House) -> None:
    account = house.account()
    house.cloud.faults.append(Fault(429, headers={"Retry-After": "90"}, where="servicelocation"))
    with pytest.raises(Unreachable):
        await account.ask(locations)
    asked = len(house.cloud.log)
    await house.clock.advance(timedelta(seconds=89))
    with pytest.raises(Unreachable, match="pause of 2 s"):
        await account.ask(locations)
    assert len(house.cloud.log) == asked
    await house.clock.advance(timedelta(seconds=2))
    assert await account.ask(locations)


@pytest.mark.parametrize("body", ["<html>maintenance</html>", '{"error": "x"}', "[]", "null", "7"])
async def test_body_of_another_shape_is_malformed(house: House, body: str) -> None:
    house.cloud.faults.append(Fault(200, body, where="servicelocation"))
    with pytest.raises(Malformed):
        await house.account().ask(locations)


@pytest.mark.parametrize("body", ["<html>", "{}", '{"access_token": 1}', "[]"])
async def test_token_answer_of_another_shape_is_malformed(house: House, body: str) -> None:
    account = house.account()
    house.cloud.faults.append(Fault(200, body, where="oauth2"))
    with pytest.raises(Malformed):
        await account.ask(locations)
    assert await account.ask(locations)


async def test_someone_elses_location_is_refused_in_words(house: House) -> None:
    with pytest.raises(Refused, match="service locations"):
        await house.account().ask(lambda s: s.get_service_location_info(999))


async def test_endless_answer_is_cut(house: House) -> None:
    account = house.account(answer_s=0.0)
    with pytest.raises(Unreachable):
        await account.ask(locations)


def test_smappy_is_as_published() -> None:
    assert smappy.__version__ == "0.2.16"
    assert smappy.smappy.URLS["token"] == "https://app1pub.smappee.net/dev/v2/oauth2/token"


def test_secrets_do_not_show_in_a_login() -> None:
    shown = repr(Login("https://x/", CLIENT_ID, USERNAME, CLIENT_SECRET, PASSWORD))
    assert CLIENT_SECRET not in shown
    assert PASSWORD not in shown

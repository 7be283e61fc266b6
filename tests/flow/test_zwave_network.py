"""Adding, mending and removing Z-Wave devices, as the setup page does it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from edge.devices.zwave.events import (
    BackupTaken,
    CodeAccepted,
    DeviceAdded,
    DeviceReady,
    DeviceRemoved,
    ExclusionStarted,
    InclusionStarted,
    InclusionStopped,
    InterviewProgress,
    PinWanted,
    RemovalReason,
    Restored,
    RoutesProgress,
    SecurityGranted,
    SecurityProblem,
)
from edge.devices.zwave.upkeep import SwitchTest
from edge.errors import Refused
from edge.model import Device, DeviceState
from tests.house.stick.stick import METER, PLUGS, Value, W
from tests.house.zwave_box import CLAMP_1_W, HOME, PLUG, Box, House, a_box, a_house, until

VERIFIED_WITHIN_S = 6  # the driver's own delay is 5 s

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with a_house(tmp_path_factory.mktemp("zwave")) as house:
        yield house


def device(box: Box, name: str) -> Device:
    return next(device for device in box.zwave.devices() if device.device == name)


async def pin_of(house: House) -> str:
    """What stands on the label of the device that joins."""
    joining = [entry for entry in await house.stick.witness() if entry["event"] == "joining"]
    return str(joining[-1]["dsk"])[:5]


async def calm(house: House) -> None:
    """Wait until the driver has made sure of everything that was set.

    It asks some seconds later, and a question in the middle of a secure bootstrap leaves the mock
    stick waiting for ever.
    """
    async with asyncio.timeout(4 * VERIFIED_WITHIN_S):
        while True:
            entries = await house.stick.witness()
            told = [e["at"] for e in entries if str(e.get("name", "")).endswith("Set")]
            before = datetime.now(UTC) - timedelta(seconds=VERIFIED_WITHIN_S)
            if not told or datetime.fromisoformat(told[-1]) < before:
                return
            await asyncio.sleep(0.2)


async def remove(box: Box, house: House, node: int) -> None:
    await house.stick.exclude(node)
    await box.zwave.network.remove()
    await box.step(ExclusionStarted)
    removed = await box.step(DeviceRemoved)
    assert removed.device == f"{HOME}-{node}"
    assert removed.reason is RemovalReason.EXCLUDED
    await until(lambda: not box.zwave.network.is_busy())


async def test_device_joins_with_its_pin_and_every_step_is_shown(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await calm(house)
        await house.stick.pend(20, secure=True)
        await box.zwave.network.add()
        assert (await box.step(InclusionStarted)).secure
        granted = await box.step(SecurityGranted)
        assert "s2_authenticated" in granted.classes
        wanted = await box.step(PinWanted)
        assert len(wanted.dsk.split("-")) == 7  # what follows the PIN
        await box.zwave.network.enter_pin(await pin_of(house))
        assert await box.step(DeviceAdded) == DeviceAdded(f"{HOME}-20", None)
        assert (await box.step(InterviewProgress)).percent is not None
        ready = await box.step(DeviceReady)
        assert (ready.name, ready.measures, ready.switches) == ("ZW175", True, True)
        assert device(box, f"{HOME}-20").details["security"] == "s2_authenticated"
        await box.zwave.turn_off(f"{HOME}-20", None)
        assert await house.stick.is_on(20) is False
        assert f"zwave/{HOME}-20/0/active_power/import" in box.notes.channels
        await remove(box, house, 20)


async def test_pin_that_is_none_is_refused_before_it_is_sent(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        for typed in ("123", "abcde", "99999"):
            with pytest.raises(Refused, match="PIN"):
                await box.zwave.network.enter_pin(typed)
        with pytest.raises(Refused, match="no device waits for a PIN"):
            await box.zwave.network.enter_pin("12345")


async def test_device_without_security_joins_too(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await house.stick.pend(22)
        await box.zwave.network.add(secure=False)
        await box.step(DeviceReady)
        assert device(box, f"{HOME}-22").details["security"] == "none"
        await remove(box, house, 22)


def qr_text(dsk: str) -> str:
    """What the QR code of a SmartStart plug says: keys, DSK, product."""
    body = "003" + dsk.replace("-", "") + "0010" + "0409701792"
    body += "0220" + f"{0x371:05}{3:05}{0xAF:05}{0x0203:05}"
    body = "131" + body[3:]
    checksum = int.from_bytes(hashlib.sha1(body.encode()).digest()[:2], "big")
    return f"9001{checksum:05}{body}"


async def test_device_with_a_code_joins_by_itself(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await calm(house)
        dsk = await house.stick.smartstart(23)
        typed = " ".join(qr_text(dsk)[i : i + 5] for i in range(0, 150, 5)).strip()
        expected = await box.zwave.network.add_by_code(typed)
        assert expected is not None
        assert expected.model == "Aeotec Ltd. ZW175"
        assert (await box.step(CodeAccepted)).dsk == dsk
        assert [one.dsk for one in await box.zwave.network.expected()] == [dsk]
        await house.stick.announce()
        assert (await box.step(DeviceReady)).device == f"{HOME}-23"
        assert device(box, f"{HOME}-23").details["security"] == "s2_authenticated"
        (joined,) = await box.zwave.network.expected()
        assert joined.device == f"{HOME}-23"
        await box.zwave.network.forget_expected(dsk)
        await remove(box, house, 23)


async def test_code_that_is_none_or_damaged_is_refused(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        dsk = "12345-" * 7 + "12345"
        damaged = qr_text(dsk).replace("12345", "12346", 1)
        for typed in ("hello", "90", damaged, "99999" * 8):
            with pytest.raises(Refused):
                await box.zwave.network.add_by_code(typed)
        await box.zwave.network.add_by_code(dsk)
        await box.zwave.network.forget_expected(dsk)
        assert await box.zwave.network.expected() == []


async def test_second_adding_is_refused_and_the_first_can_be_stopped(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await box.zwave.network.add()
        await until(lambda: box.zwave.network.activity() == "including")
        with pytest.raises(Refused, match="already"):
            await box.zwave.network.add()
        await box.zwave.network.stop()
        await box.step(InclusionStopped)
        await until(lambda: box.zwave.network.activity() == "idle")


async def test_adding_that_nobody_finishes_is_closed(house: House) -> None:
    async with a_box(house.server.url, hurry=120, presets=False) as box:
        await box.zwave.network.add()
        await box.step(InclusionStopped, within_s=10)


async def test_device_that_is_gone_is_removed_one_that_answers_is_not(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await house.stick.pend(24)
        await box.zwave.network.add(secure=False)
        await box.step(DeviceReady)
        gone = f"{HOME}-24"
        with pytest.raises(Refused):
            await box.zwave.network.remove_failed(gone)
        await house.stick.offline(24)
        assert await box.zwave.upkeep.ping(gone) is False
        await box.zwave.network.remove_failed(gone)
        assert (await box.step(DeviceRemoved)).reason is RemovalReason.FAILED
        with pytest.raises(Refused, match="no Z-Wave device"):
            await box.zwave.turn_off(gone, None)


async def test_replacement_keeps_the_channels_of_the_dead_device(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await house.stick.pend(26)
        await box.zwave.network.add(secure=False)
        await box.step(DeviceReady)
        dead = f"{HOME}-26"
        with pytest.raises(Refused):
            await box.zwave.network.replace(dead)
        before = {key for key in box.notes.channels if dead in key}
        await house.stick.offline(26)
        assert await box.zwave.upkeep.ping(dead) is False
        await house.stick.replacement(26)
        await box.zwave.network.replace(dead)
        assert (await box.step(InclusionStarted)).replaces == dead
        removed = await box.step(DeviceRemoved)
        assert (removed.device, removed.reason) == (dead, RemovalReason.REPLACED)
        assert (await box.step(DeviceReady)).device == dead
        box.notes.channels.clear()
        await house.stick.report(Value(26, 0, W, 55.5))
        await until(lambda: box.notes.values(f"zwave/{dead}/0/active_power/import")[-1:] == [55.5])
        assert {d.device for d in box.zwave.devices()} >= {dead}
        assert before
        await box.zwave.turn_off(dead, None)
        assert await house.stick.is_on(26) is False
        await until(lambda: not box.zwave.network.is_busy())
        await remove(box, house, 26)


async def test_memory_of_the_stick_is_copied_before_a_device_is_added(
    house: House, tmp_path: Path
) -> None:
    async with a_box(house.server.url, backup_folder=tmp_path / "copies", presets=False) as box:
        await box.zwave.network.add()
        taken = await box.step(BackupTaken)
        (copy,) = box.zwave.backups.files()
        assert copy.name == taken.file
        assert copy.stat().st_size == taken.size_bytes > 0
        assert copy.stat().st_mode & 0o077 == 0
        await box.zwave.network.stop()
        await until(lambda: not box.zwave.network.is_busy())
        await box.hears(house, 2002)  # the radio is on again


async def test_new_stick_is_given_the_memory_of_the_old_one(house: House, tmp_path: Path) -> None:
    async with a_box(house.server.url, backup_folder=tmp_path / "copies", presets=False) as box:
        await box.zwave.network.add()
        taken = await box.step(BackupTaken)
        await box.step(InclusionStarted)
        await box.zwave.network.stop()
        await until(lambda: not box.zwave.network.is_busy())
        old = await house.stick.memory()
        await house.stick.forget_memory()
        assert await house.stick.memory() != old
        with pytest.raises(Refused, match="gone"):
            await box.zwave.network.write_memory("../state.db")
        await box.zwave.network.write_memory(taken.file)
        assert (await box.step(Restored)).file == taken.file
        assert await house.stick.memory() == old
        alive = (DeviceState.ALIVE,) * 3
        await until(lambda: tuple(d.state for d in box.zwave.devices()) == alive, within_s=60)
        await box.hears(house, 2003)


async def test_device_that_came_in_place_of_another_goes_on_under_its_name(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await house.stick.pend(25)
        await box.zwave.network.add(secure=False)
        await box.step(DeviceReady)
        with pytest.raises(Refused, match="still belongs"):
            await box.zwave.upkeep.adopt(f"{HOME}-25", PLUG)
        await box.zwave.upkeep.adopt(f"{HOME}-25", f"{HOME}-99", "Boiler")
        assert device(box, f"{HOME}-99").name == "Boiler"
        assert f"zwave/{HOME}-99/0/active_power/import" in box.notes.channels
        await box.zwave.turn_off(f"{HOME}-99", None)
        assert await house.stick.is_on(25) is False
        await box.zwave.turn_on(f"{HOME}-25")  # what was begun under its own number is ended
        assert await house.stick.is_on(25) is True
        assert box.notes.documents["zwave"]["aliases"] == {f"{HOME}-25": f"{HOME}-99"}
        await house.stick.exclude(25)
        await box.zwave.network.remove()
        assert (await box.step(DeviceRemoved)).device == f"{HOME}-99"
        await until(lambda: box.notes.documents["zwave"]["aliases"] == {})  # its number is free
        await until(lambda: not box.zwave.network.is_busy())


async def test_name_is_kept_and_shown_on_its_channels(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        kept = await box.zwave.upkeep.rename(PLUG, "  Boiler\x00 <b>kelder</b> ")
        assert kept == "Boiler <b>kelder</b>"
        assert device(box, PLUG).name == kept
        assert box.notes.channels[f"zwave/{PLUG}/0/active_power/import"].name == kept
        with pytest.raises(Refused):
            await box.zwave.upkeep.rename(PLUG, " \x07 ")


async def test_new_interview_keeps_the_channels_of_the_meter(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        before = set(box.notes.channels)
        await box.zwave.upkeep.interview(f"{HOME}-{METER}")
        await box.step(InterviewProgress)
        assert (await box.step(DeviceReady, within_s=60)).measures
        assert set(box.notes.channels) == before
        await box.hears(house, 2001)


async def test_routes_are_rebuilt_with_progress(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await box.zwave.upkeep.rebuild_routes()
        while not (progress := await box.step(RoutesProgress)).finished:
            assert progress.total == 3
        assert (progress.done, progress.failed) == (3, 0)


async def test_switch_is_tried_and_put_back_as_it_was(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await house.stick.press(PLUGS[0], on=True)
        assert await box.zwave.upkeep.test_switch(PLUG) == SwitchTest(obeyed=True, restored=True)
        await house.stick.jam(PLUGS[0])
        tried = await box.zwave.upkeep.test_switch(PLUG)
        await house.stick.jam(PLUGS[0], jammed=False)
        assert tried == SwitchTest(obeyed=False, restored=True)
        assert await house.stick.is_on(PLUGS[0])


async def test_wrong_pin_is_told_and_the_device_can_be_removed(house: House) -> None:
    async with a_box(house.server.url, presets=False) as box:
        await calm(house)
        await house.stick.pend(21, secure=True)
        await box.zwave.network.add()
        await box.step(PinWanted)
        wrong = (int(await pin_of(house)) + 1) % 65536
        await box.zwave.network.enter_pin(f"{wrong:05}")
        assert (await box.step(DeviceAdded)).problem is SecurityProblem.WRONG_PIN
        await until(lambda: not box.zwave.network.is_busy())
        await remove(box, house, 21)


async def test_report_interval_of_a_known_meter_is_a_person_s_choice(house: House) -> None:
    meter = f"{HOME}-{METER}"
    async with a_box(house.server.url) as box:
        with pytest.raises(Refused, match="between"):
            await box.zwave.upkeep.set_power_interval(meter, timedelta(seconds=1))
        await box.zwave.upkeep.set_power_interval(meter, timedelta(seconds=10))
        interval = timedelta(seconds=10)
        await until(lambda: box.notes.channels[CLAMP_1_W].report_interval == interval)
        assert (await house.stick.parameters(111))[METER] == {111: 10}
        assert box.notes.documents["zwave"]["power_intervals_s"] == {meter: 10}
        await box.zwave.upkeep.set_power_interval(meter, None)
        await until(lambda: box.notes.channels[CLAMP_1_W].report_interval > interval)

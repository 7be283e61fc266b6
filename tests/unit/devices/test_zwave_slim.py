import json

from edge.devices.zwave.slim import COMMAND_CLASSES, is_passed_over, slim
from tests.unit.devices.zwave_script import METER, PLUG, ScriptedDriver, dump


def test_snapshot_keeps_what_the_box_looks_at_and_a_third_of_it_goes() -> None:
    nodes = [dump("zw095", METER), dump("zw175", PLUG)]
    before = len(json.dumps(nodes))
    message = slim({"type": "result", "result": {"state": {"nodes": nodes}}})
    meter, plug = message["result"]["state"]["nodes"]
    assert len(json.dumps([meter, plug])) < before * 2 / 3
    assert meter["deviceConfig"]["label"] == "ZW095"
    kept = {value["commandClass"] for value in meter["values"] + plug["values"]}
    assert kept <= COMMAND_CLASSES
    watts = next(v for v in meter["values"] if v.get("propertyKey") == 66049)
    assert watts["metadata"]["unit"] == "W"


def test_node_that_comes_with_an_event_is_made_slim_too() -> None:
    for name, field in (("ready", "nodeState"), ("node added", "node")):
        event = {"event": name, field: dump("zw175", PLUG)}
        slim({"type": "event", "event": event})
        assert "paramInformation" not in event[field]["deviceConfig"]  # type: ignore[index]


def test_other_messages_pass_unchanged() -> None:
    for message in ({"type": "version", "homeId": 1}, {"type": "result", "result": {}}, {}):
        assert slim(dict(message)) == message


async def test_value_nobody_looks_at_is_told_but_not_kept() -> None:
    driver = ScriptedDriver(dump("zw175", PLUG))
    known = len(driver.played.controller.nodes[PLUG].values)
    args = {"commandClass": 113, "property": "Power Management", "newValue": 8, "endpoint": 0}
    for name in ("value updated", "value removed"):
        driver.node_says(PLUG, name, args=args)
        assert is_passed_over({"event": name, "args": args})
    assert len(driver.events) == 2
    assert len(driver.played.controller.nodes[PLUG].values) == known
    assert driver.unreadable == []

// The simulated Z-stick and the devices around it. Speaks the real Serial API on standard input and
// output; the control port (loopback HTTP, JSON; see README.md) plays the household.
//
//     node mock_stick.mjs '{"keys": {"S0_Legacy": "…hex…", …}, "extraPlugs": 0}'
//
// Says `control PORT` on standard error once it is ready, and ends when standard input does.
import http from "node:http";
import process from "node:process";
import {
  StickMemory, announceSmartStart, repeatUntilPinTyped, stickBehaviors, tellRoutes,
} from "./controller.mjs";
import {
  SCALE, deviceSpecificKey, energyMeter, factorySetting, parts, smartSwitch,
} from "./devices.mjs";

const { testing, serial: wire, serialMock, behaviors, core, cc } = parts;
const F = wire.FunctionType;
const WITNESS_MAX = 10_000; // commands remembered; older ones are forgotten
const HEM = 2, PLUGS = [3, 4], FIRST_EXTRA = 10;
const CONSUMED = 1; // rate type; 2 would be export
const LABELLED_KEY = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
const SETTLE_MS = 250; // a plug that was switched reports its new power after this
const ANNOUNCE_EVERY_MS = 2000;
const ENVELOPES = ["MultiChannelCCCommandEncapsulation", "SupervisionCCGet", "CRC16CCCommandEncapsulation"];

const options = JSON.parse(process.argv[2] ?? "{}");
const values = new Map(); // "node/endpoint/scale" -> what the meter shows
const offline = new Set(), jammed = new Set(), radio = new Map(), memory = new StickMemory();
const joining = { excludedNext: undefined, smartStart: undefined, finishing: undefined };
let witness = [], witnessed = 0;
let configured = 0; // configuration parameters set so far

process.on("unhandledRejection", (problem) => {
  // A driver that is gone acknowledges nothing; the mock rejects a promise nobody holds.
  if (!/ACK within|while not idle/.test(String(problem?.message))) console.error(problem);
});

const { serial, port: mockPort } = await serialMock.createAndOpenMockedZWaveSerialPort();
const controller = await testing.MockController.create({
  homeId: options.homeId ?? 0x7e570001,
  ownNodeId: 1,
  mockPort,
  serial,
  // The devices' side of S2 lives here: without the driver's own keys nothing can be decoded.
  securityKeys: Object.fromEntries(
    Object.entries(options.keys ?? {}).map(([name, hex]) => [name, Buffer.from(hex, "hex")]),
  ),
  capabilities: {
    // Any known stick's identity would make the driver wait 10 s for functions only that one has.
    manufacturerId: 0xffff, productType: 0xffff, productId: 0xfffe,
    firmwareVersion: "7.18", libraryVersion: "Z-Wave 7.18.03", supportsLongRange: false,
    supportedFunctionTypes: [
      F.GetSerialApiInitData, F.GetControllerCapabilities, F.GetControllerVersion, F.GetControllerId,
      F.SendData, F.SendDataMulticast, F.SendDataBridge, F.SendDataMulticastBridge,
      F.GetNodeProtocolInfo, F.RequestNodeInfo, F.AssignSUCReturnRoute, F.DeleteSUCReturnRoute,
      F.AddNodeToNetwork, F.RemoveNodeFromNetwork, F.SoftReset, F.RequestNodeNeighborUpdate,
      F.GetRoutingInfo, F.DeleteReturnRoute, F.AssignReturnRoute, F.IsFailedNode,
      F.RemoveFailedNode, F.ReplaceFailedNode, F.GetBackgroundRSSI,
      F.NVMOperations, F.SetRFReceiveMode,
    ],
  },
});
controller.defineBehavior(...behaviors.createDefaultMockControllerBehaviors());
controller.defineBehavior(...stickBehaviors({ offline, joining, note, memory }));
tellRoutes(controller, radio);

const hooks = (id) => ({
  readValue: (endpoint, scale) => shown(id, endpoint, scale),
  onReset: (endpoint) => values.set(`${id}/${endpoint}/${SCALE.kwh}`, 0),
});
await add(energyMeter(HEM, hooks(HEM)));
for (const id of PLUGS) await add(smartSwitch(id, hooks(id)));
for (let id = FIRST_EXTRA; id < FIRST_EXTRA + (options.extraPlugs ?? 0); id++)
  await add(smartSwitch(id, hooks(id)));
setInterval(forgetHistory, 60_000).unref();
connectWire();
startControl();

// --- devices ------------------------------------------------------------------------------------

async function add(description) {
  const node = await testing.MockNode.create({ ...description, controller });
  prepare(node, { defaults: true });
  controller.addNode(node);
  return node;
}

function prepare(node, { defaults }) {
  if (defaults) node.defineBehavior(...behaviors.createDefaultMockNodeBehaviors());
  node.defineBehavior({
    handleCC(_, self, command) {
      if (offline.has(self.id)) return { action: "stop" };
      if (!ENVELOPES.includes(command.constructor.name)) noteCommand(self.id, command);
      if (command instanceof cc.ConfigurationCCSet) configured++;
      if (!(command instanceof cc.BinarySwitchCCSet)) return undefined;
      reportPowerSoon(self.id);
      return jammed.has(self.id) ? { action: "ok" } : undefined;
    },
  });
}

const isOn = (id) => controller.nodes.get(id)?.state.get("BinarySwitch_currentValue") ?? true;

// A plug that is off shows neither power nor current, whatever hangs on it.
function shown(id, endpoint, scale) {
  const value = values.get(`${id}/${endpoint}/${scale}`) ?? 0;
  return (scale === SCALE.w || scale === SCALE.a) && !isOn(id) ? 0 : value;
}

function reportPowerSoon(id) {
  const report = () => sendReport(id, 0, SCALE.w, shown(id, 0, SCALE.w));
  setTimeout(report, SETTLE_MS).unref();
}

async function sendReport(id, endpoint, scale, value, rateType = CONSUMED) {
  if (offline.has(id)) return;
  const node = controller.nodes.get(id);
  const about = { nodeId: controller.ownNodeId };
  let report = new cc.MeterCCReport({ ...about, type: 1, scale, rateType, value, deltaTime: 0 });
  if (endpoint)
    report = new cc.MultiChannelCCCommandEncapsulation({
      ...about, endpointIndex: endpoint, destination: 0, encapsulated: report,
    });
  await sendFrom(node, report);
}

const sendFrom = (node, command) =>
  node.sendToController(testing.createMockZWaveRequestFrame(command, { ackRequested: false }));

// --- the witness: every command that reached a device by radio ------------------------------------

function note(entry) {
  witness.push({ seq: ++witnessed, at: new Date().toISOString(), ...entry });
  if (witness.length > WITNESS_MAX) witness = witness.slice(-WITNESS_MAX / 2);
}

function noteCommand(node, command) {
  const { targetValue, parameter, value, endpointIndex } = command;
  note({ event: "command", node, endpoint: endpointIndex ?? 0, name: command.constructor.name,
         ...(targetValue !== undefined && { target: targetValue }),
         ...(parameter !== undefined && { parameter }), ...(value !== undefined && { value }) });
}

// The mock remembers every frame for assertions nobody makes here.
function forgetHistory() {
  controller.clearReceivedHostMessages();
  for (const node of controller.nodes.values()) {
    node.clearReceivedControllerFrames();
    node.clearSentControllerFrames();
  }
}

// --- the wire -----------------------------------------------------------------------------------

function connectWire() {
  const { SerialAPI } = wire.ZWaveSerialFrameType;
  new wire.Faucet(serial.readable).connect(
    new WritableStream({
      write(chunk) {
        if (chunk.type !== SerialAPI) return;
        process.stdout.write(typeof chunk.data === "number" ? Uint8Array.of(chunk.data) : chunk.data);
      },
    }),
  );
  // The mock takes a chunk for one frame; what the driver sends may hold an ACK and a frame, or
  // half of one.
  let received = Buffer.alloc(0), written = Promise.resolve();
  process.stdin.on("data", (data) => {
    received = Buffer.concat([received, data]);
    for (let size; (size = firstFrame(received)) > 0; received = received.subarray(size)) {
      const one = new Uint8Array(received.subarray(0, size));
      written = written.then(() => serial.writeAsync(one)).catch((e) => console.error(e));
    }
  });
  process.stdin.on("end", () => process.exit(0));
  process.stdout.on("error", () => process.exit(0));
}

function firstFrame(bytes) {
  if (!bytes.length) return 0;
  if (bytes[0] !== 1) return 1; // ACK, NAK, CAN
  return bytes.length >= 2 && bytes.length >= bytes[1] + 2 ? bytes[1] + 2 : 0;
}

// --- the control port -----------------------------------------------------------------------------

function nodeOf(id) {
  const node = controller.nodes.get(id);
  if (!node) throw new Error(`there is no node ${id}`);
  return node;
}

function switches() {
  const plugs = [...controller.nodes.values()].filter((n) => n.capabilities.genericDeviceClass === 0x10);
  return Object.fromEntries(plugs.map(({ id }) => [id, isOn(id)]));
}

function parameters(wanted) {
  const of = (node) => wanted.map((p) => [p, node.state.get(`Configuration_value_${p}`) ?? factorySetting(node, p)]);
  return Object.fromEntries([...controller.nodes].map(([id, node]) => [id, Object.fromEntries(of(node))]));
}

const commands = {
  // values, shown: [{node, endpoint, scale, value, rate?, exact?}]. All are what the meters show from
  // now on; `values` are also reported by radio, `exact` ones even from a plug that is off.
  async report({ values: reported = [], shown: silent = [] }) {
    for (const { node, endpoint = 0, scale, value, rate = CONSUMED } of [...silent, ...reported]) {
      nodeOf(node);
      if (rate === CONSUMED) values.set(`${node}/${endpoint}/${scale}`, value);
    }
    for (const { node, endpoint = 0, scale, value, rate = CONSUMED, exact } of reported)
      await sendReport(node, endpoint, scale, exact || rate !== CONSUMED ? value : shown(node, endpoint, scale), rate);
    return { switches: switches(), configured };
  },
  state: ({ parameters: wanted = [] }) => ({
    nodes: [...controller.nodes.keys()], switches: switches(), parameters: parameters(wanted),
    offline: [...offline], values: Object.fromEntries(values),
  }),
  offline({ node }) { nodeOf(node).autoAckControllerFrames = false; offline.add(node); },
  online({ node }) { nodeOf(node).autoAckControllerFrames = true; offline.delete(node); },
  // The plug confirms commands and does not obey them.
  jam({ node, jammed: on = true }) { nodeOf(node); on ? jammed.add(node) : jammed.delete(node); },
  // Somebody presses the button on the plug itself.
  async press({ node, on = !isOn(node) }) {
    nodeOf(node).state.set("BinarySwitch_currentValue", on);
    await sendFrom(nodeOf(node), new cc.BinarySwitchCCReport({ nodeId: controller.ownNodeId, currentValue: on }));
    reportPowerSoon(node);
  },
  // A new plug waits to be included when the driver next starts an inclusion.
  pend({ node, secure = false }) {
    controller.nodePendingInclusion = {
      ...smartSwitch(node, hooks(node), { secure }),
      setup(joined) {
        prepare(joined, { defaults: false });
        const dsk = deviceSpecificKey(joined);
        note({ event: "joining", node, dsk, pin: dsk.slice(0, 5) });
        if (secure) repeatUntilPinTyped(controller, joined);
      },
    };
  },
  // The person presses the button that lets this node be excluded.
  exclude({ node }) { nodeOf(node); joining.excludedNext = node; },
  // A new plug that will take the place of a node that is gone.
  async replacement({ node }) {
    const plug = await testing.MockNode.create({ ...smartSwitch(node, hooks(node)), controller });
    prepare(plug, { defaults: true });
    joining.replacement = plug;
  },
  // `labelled`: the one whose label is on tests/page/smartstart.png.
  async smartstart({ node, labelled = false }) {
    const plug = await testing.MockNode.create({
      ...smartSwitch(node, hooks(node), { secure: true }), controller,
    });
    if (labelled) plug.ecdhKeyPair = await core.keyPairFromRawECDHPrivateKey(LABELLED_KEY);
    prepare(plug, { defaults: true });
    joining.smartStart = plug;
    return { dsk: deviceSpecificKey(plug) };
  },
  // Powered up, it asks again and again until it is included.
  async announce() {
    const asking = setInterval(() => ask(), ANNOUNCE_EVERY_MS);
    const ask = async () => {
      if (joining.smartStart) await announceSmartStart(controller, joining.smartStart);
      else clearInterval(asking);
    };
    await ask();
  },
  // How the node's answers arrive from now on.
  radio({ node, rssi, repeaters = [] }) { radio.set(node, { rssi, repeaters }); },
  // What is in the stick's memory; with `as` it first becomes that of another stick.
  memory({ as }) {
    if (as) memory.become(as);
    return { content: Buffer.from(memory.bytes).toString("base64"), writes: memory.writes };
  },
  // What happened since sequence number `after`.
  witness: ({ after = 0 }) => ({ entries: witness.filter(({ seq }) => seq > after), last: witnessed }),
};

function startControl() {
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const command = commands[request.url.slice(1)];
    try {
      if (!command || request.method !== "POST") throw new Error(`no such command: ${request.url}`);
      const result = await command(JSON.parse(Buffer.concat(chunks).toString() || "{}"));
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(result ?? {}));
    } catch (problem) {
      response.writeHead(400, { "content-type": "text/plain" });
      response.end(problem.message);
    }
  });
  server.listen(0, "127.0.0.1", () => console.error(`control ${server.address().port}`));
}

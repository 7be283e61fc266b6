// What the stick itself answers beyond zwave-js's mock controller: functions it does not know, and
// functions it gets wrong. Each entry says which defect of the mock it stands in for.
import fs from "node:fs";
import zlib from "node:zlib";
import { deviceSpecificKey, parts } from "./devices.mjs";

const { serialapi: api, core, cc, testing } = parts;
const REQUEST = 0, RESPONSE = 1, SMART_START = { include: 8, listen: 9 };
const MEMORY_CHUNK_BYTES = 200;
const PIN_REPEAT_MS = 2000, PIN_PATIENCE_MS = 240_000; // real devices repeat every ten seconds

// A frame as it goes over the wire: SOF, length, type, function, payload, checksum.
export function frame(type, fn, payload) {
  const body = [payload.length + 3, type, fn, ...payload];
  return Uint8Array.from([1, ...body, body.reduce((sum, byte) => sum ^ byte, 0xff)]);
}

// offline: node ids that hear nothing. joining: {excludedNext, smartStart, replacement} set by the
// control port.
export function stickBehaviors({ offline, joining, note, memory }) {
  return [rawAnswers(offline, joining, note, memory), inclusion(joining, note), softReset()];
}

// Functions whose requests the mock's parser cannot read ("Maximum call stack"): answered as bytes.
function rawAnswers(offline, joining, note, memory) {
  const answers = {
    0x48: (c, [, id]) => [[REQUEST, [id, 0x21]], [REQUEST, [id, 0x22]]], // neighbour update
    0x80: (c, [node]) => [[RESPONSE, neighbours(c, node)]], // routing info
    0x47: (c, [, id]) => [[RESPONSE, [1]], [REQUEST, [id, 0]]], // delete return routes
    0x46: (c, [, , id]) => [[RESPONSE, [1]], [REQUEST, [id, 0]]], // assign return route
    0x62: (c, [node]) => [[RESPONSE, [offline.has(node) ? 1 : 0]]], // is the node failed
    0x61: (c, [node, id]) => { // remove a failed node
      if (c.nodes.has(node)) c.removeNode(c.nodes.get(node));
      note({ event: "failed node removed", node });
      return [[RESPONSE, [0]], [REQUEST, [id, 1]]];
    },
    0x63: (c, [node, id]) => [ // replace a failed node: a new device joins under its number
      [RESPONSE, [0]],
      [REQUEST, [id, 3]], // ready: press its button
      () => replace(c, node, offline, joining, note),
      [REQUEST, [id, 4]], // done
    ],
    0x10: () => [[RESPONSE, [1]]], // radio off, before the memory is read, and on again
    0x2e: (c, request) => [[RESPONSE, memory.answer(request)]], // the stick's own memory
    0x3b: () => [[RESPONSE, [0xab, 0xac, 0x7f]]], // background noise: -85, -84 dBm, unknown
  };
  return {
    onHostData(controller, data) {
      if (data.length < 5 || data[0] !== 1 || data[2] !== REQUEST) return undefined;
      const fn = data[3];
      if (!(fn in answers)) return undefined;
      controller.ackHostMessage();
      const steps = answers[fn](controller, [...data.slice(4, -1)]);
      void (async () => {
        for (const step of steps) {
          if (typeof step === "function") await step();
          else await controller.sendToHost(frame(step[0], fn, step[1]));
        }
      })();
      return true;
    },
  };
}

async function replace(controller, node, offline, joining, note) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  if (controller.nodes.has(node)) controller.removeNode(controller.nodes.get(node));
  offline.delete(node);
  controller.addNode(joining.replacement);
  note({ event: "replaced", node });
}

// The memory of a 700 series stick (NVM3) as the driver reads and writes it: this network's, or that
// of a stick which was never used. The mock's own network does not follow what is written there.
export class StickMemory {
  writes = 0;
  constructor() { this.become("memory"); }
  become(name) {
    const packed = fs.readFileSync(new URL(`./${name}.nvm.gz`, import.meta.url));
    this.bytes = new Uint8Array(zlib.gunzipSync(packed));
  }
  answer([command, length = 0, high = 0, low = 0, ...data]) {
    const OPEN = 0, READ = 1, WRITE = 2, OK = 0, END_OF_FILE = 0xff;
    const offset = (high << 8) | low, size = this.bytes.length;
    if (command === OPEN) return [OK, 0, size >> 8, size & 0xff];
    if (command === WRITE) {
      this.writes++;
      this.bytes.set(data.slice(0, length), offset);
      return [offset + length >= size ? END_OF_FILE : OK, 0, high, low];
    }
    if (command !== READ) return [OK, 0, high, low];
    const chunk = this.bytes.slice(offset, offset + Math.min(length, MEMORY_CHUNK_BYTES));
    const status = offset + chunk.length >= size ? END_OF_FILE : OK;
    return [status, chunk.length, high, low, ...chunk];
  }
}

// The mock says nothing of the way a message took. radio: node → {rssi, repeaters}.
export function tellRoutes(controller, radio) {
  const targets = new Map(); // callback id → node
  controller.defineBehavior({
    onHostMessage(_, message) {
      if (message instanceof api.SendDataRequest || message instanceof api.SendDataBridgeRequest)
        targets.set(message.callbackId, message.getNodeId());
      return undefined;
    },
  });
  const send = controller.sendMessageToHost.bind(controller);
  controller.sendMessageToHost = (message, ...rest) => {
    const isReport = message instanceof api.SendDataRequestTransmitReport
      || message instanceof api.SendDataBridgeRequestTransmitReport;
    const known = isReport && radio.get(targets.get(message.callbackId));
    if (known)
      message.txReport = {
        txTicks: 2, ackRSSI: known.rssi, repeaterNodeIds: known.repeaters ?? [],
        ackRepeaterRSSI: (known.repeaters ?? []).map(() => known.rssi), routeSpeed: 3,
      };
    return send(message, ...rest);
  };
}

function neighbours(controller, node) {
  const mask = new Array(29).fill(0);
  for (const id of [controller.ownNodeId, ...controller.nodes.keys()])
    if (id !== node) mask[(id - 1) >> 3] |= 1 << ((id - 1) & 7);
  return mask;
}

// A driver that was killed in mid-command leaves the mock "sending" for ever: a reset ends that.
function softReset() {
  return {
    onHostMessage(controller, message) {
      if (message instanceof api.SoftResetRequest) {
        controller.state.delete("communicationState");
        controller.state.delete("inclusionState");
      }
      return undefined;
    },
  };
}

function inclusion(joining, note) {
  return {
    async onHostMessage(controller, message) {
      if (message instanceof api.RemoveNodeFromNetworkRequest)
        return exclude(controller, message, joining, note);
      if (!(message instanceof api.AddNodeToNetworkRequest)) return undefined;
      const type = message.addNodeType & 0x0f;
      if (type === SMART_START.listen) return true; // the mock does not know SmartStart
      if (type === SMART_START.include) return includeSmartStart(controller, message, joining);
      if (message.addNodeType !== api.AddNodeType.Stop) return undefined;
      if (joining.finishing) return finishSmartStart(controller, message, joining);
      // Stop while idle would start adding.
      return controller.state.get("inclusionState") > 0 ? undefined : true;
    },
  };
}

// The mock never removes anybody; and Stop while idle would start removing.
async function exclude(controller, message, joining, note) {
  if (message.removeNodeType === api.RemoveNodeType.Stop)
    return controller.state.get("inclusionState") > 0 ? undefined : true;
  const node = joining.excludedNext;
  if (node === undefined) return undefined;
  joining.excludedNext = undefined;
  const say = (status, nodeId) =>
    controller.sendMessageToHost(
      new api.RemoveNodeFromNetworkRequestStatusReport({ callbackId: message.callbackId, status, nodeId }),
    );
  await say(api.RemoveNodeStatus.Ready);
  void (async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await say(api.RemoveNodeStatus.NodeFound);
    await say(api.RemoveNodeStatus.RemovingSlave, node);
    controller.removeNode(controller.nodes.get(node));
    note({ event: "excluded", node });
    await say(api.RemoveNodeStatus.Done, node);
  })();
  return true;
}

function includeSmartStart(controller, message, joining) {
  const node = joining.smartStart;
  if (!node) return true;
  joining.smartStart = undefined;
  joining.finishing = node.id;
  const supportedCCs = [...node.implementedCCs]
    .filter(([, info]) => info.isSupported && info.version > 0)
    .map(([id]) => id);
  const say = (report) =>
    controller.sendMessageToHost(
      new api.AddNodeToNetworkRequestStatusReport({ callbackId: message.callbackId, ...report }),
    );
  void (async () => {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await say({ status: api.AddNodeStatus.Ready });
    await say({ status: api.AddNodeStatus.NodeFound });
    const nodeInfo = { nodeId: node.id, ...node.capabilities, supportedCCs };
    await say({ status: api.AddNodeStatus.AddingSlave, nodeInfo });
    controller.addNode(node);
    await say({ status: api.AddNodeStatus.ProtocolDone });
  })();
  return true;
}

async function finishSmartStart(controller, message, joining) {
  const nodeId = joining.finishing;
  joining.finishing = undefined;
  if (message.callbackId)
    await controller.sendMessageToHost(
      new api.AddNodeToNetworkRequestStatusReport({
        callbackId: message.callbackId, status: api.AddNodeStatus.Done, nodeId,
      }),
    );
  return true;
}

// A SmartStart device that was just powered up asks to be included (application update 0x85).
// A device that joins repeats its last word while a person looks for the PIN; the library's own mock
// says it once, before anybody can have typed anything, and would then wait for ever.
export function repeatUntilPinTyped(controller, node) {
  const HANDSHAKE = 1; // the stage of zwave-js' own mock
  node.defineBehavior({
    handleCC(_, self, command) { // the driver gave up: a wrong PIN, or none in time
      if (command instanceof cc.Security2CCKEXFail) self.state.delete("Security2_bootstrapState");
      return undefined;
    },
  });
  const until = Date.now() + PIN_PATIENCE_MS;
  const timer = setInterval(async () => {
    const stage = node.state.get("Security2_bootstrapState")?.stage;
    const isGone = controller.nodes.get(node.id) !== node;
    if (Date.now() > until || stage > HANDSHAKE || isGone) clearInterval(timer);
    else if (stage === HANDSHAKE) await repeatKeyExchange(controller, node).catch(() => undefined);
  }, PIN_REPEAT_MS);
}

async function repeatKeyExchange(controller, node) {
  const nonceGet = new cc.Security2CCNonceGet({ nodeId: controller.ownNodeId });
  const { createMockZWaveRequestFrame: frameOf, MockZWaveFrameType: kinds } = testing;
  node.securityManagers.securityManager2.deleteNonce(controller.ownNodeId);
  await node.sendToController(frameOf(nonceGet, { ackRequested: false }));
  await node.expectControllerFrame(
    (heard) => heard.type === kinds.Request && heard.payload instanceof cc.Security2CCNonceReport,
    { timeout: 1000 },
  );
  const echo = new cc.Security2CCKEXSet({
    nodeId: controller.ownNodeId, echo: true, permitCSA: false,
    selectedKEXScheme: 1, selectedECDHProfile: 0, // KEX scheme 1, Curve25519: what it was offered
    grantedKeys: [...node.capabilities.securityClasses],
  });
  const sealed = cc.Security2CC.encapsulate(echo, node.id, node.securityManagers);
  await node.sendToController(frameOf(sealed, { ackRequested: false }));
}

export async function announceSmartStart(controller, node) {
  const homeId = core.nwiHomeIdFromDSK(core.dskFromString(deviceSpecificKey(node)));
  const classes = [0x5e, 0x9f, 0x25, 0x32];
  const payload = [0x85, 0, 0, ...homeId, classes.length, 0x04, 0x10, 0x01, ...classes];
  await controller.sendToHost(frame(REQUEST, 0x49, payload));
}

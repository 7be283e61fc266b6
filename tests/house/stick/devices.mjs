// What the simulated devices are: an Aeotec Home Energy Meter Gen5 (ZW095) and Smart Switch 7
// (ZW175), as their interviews and factory settings describe them.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
export const parts = require("../../../build/mock-stick/parts.cjs"); // made by tests/house/setup
const { core, testing } = parts;
const CC = core.CommandClasses;

export const SCALE = { kwh: 0, w: 2, v: 4, a: 5 };
const TX_DELAY_MS = Number(process.env.MOCK_STICK_TX_DELAY_MS ?? 5);
const INT32 = { minValue: -(2 ** 31), maxValue: 2 ** 31 - 1 };

const EVERY_DEVICE = [
  { ccId: CC["Z-Wave Plus Info"], version: 2, isSupported: true },
  { ccId: CC["Manufacturer Specific"], version: 2, isSupported: true },
  { ccId: CC.Version, version: 2, isSupported: true },
];

// number: [bytes, factory setting]
const HEM_PARAMETERS = {
  2: [1, 0], 3: [1, 1], 4: [2, 50], 5: [2, 50], 6: [2, 50], 7: [2, 50], 8: [1, 10], 9: [1, 10],
  10: [1, 10], 11: [1, 10], 13: [1, 0], 101: [4, 2], 102: [4, 1], 103: [4, 0], 111: [4, 5],
  112: [4, 120], 113: [4, 120], 200: [1, 0], 252: [1, 0],
};
const PLUG_PARAMETERS = {
  4: [2, 2415], 8: [1, 0], 9: [2, 0], 10: [2, 0], 18: [1, 2], 19: [1, 0], 20: [1, 0], 80: [1, 0],
  81: [1, 2], 82: [4, 0x12000800], 91: [2, 0], 92: [2, 0], 93: [1, 0], 101: [4, 15], 111: [4, 600],
};

function configuration(parameters) {
  return testing.ccCaps({
    ccId: CC.Configuration,
    version: 1,
    isSupported: true,
    parameters: Object.entries(parameters).map(([number, [valueSize, defaultValue]]) => ({
      "#": Number(number), valueSize, defaultValue, ...INT32,
    })),
  });
}

// readValue(endpoint, scale) -> number; onReset(endpoint) is called when the driver resets kWh.
function meter(endpoint, { readValue, onReset }) {
  return testing.ccCaps({
    ccId: CC.Meter,
    version: 4,
    isSupported: true,
    meterType: 1,
    supportedScales: Object.values(SCALE),
    supportedRateTypes: [1], // consumed
    supportsReset: true,
    getValue: (scale) => ({ value: readValue(endpoint, scale), deltaTime: 0 }),
    onReset: () => onReset(endpoint),
  });
}

export function energyMeter(id, hooks) {
  const deviceClass = { genericDeviceClass: 0x31, specificDeviceClass: 0x01 };
  return {
    id,
    capabilities: {
      manufacturerId: 0x0086, productType: 0x0002, productId: 0x005f, firmwareVersion: "1.35",
      ...deviceClass,
      txDelay: TX_DELAY_MS,
      commandClasses: [
        ...EVERY_DEVICE,
        meter(0, hooks),
        { ccId: CC["Multi Channel"], version: 4, isSupported: true },
        configuration(HEM_PARAMETERS),
      ],
      endpoints: [1, 2, 3].map((e) => ({ ...deviceClass, commandClasses: [meter(e, hooks)] })),
    },
  };
}

// secure: joins with S2 and a PIN, and then confirms each command.
export function smartSwitch(id, hooks, { secure = false } = {}) {
  const { S2_Authenticated, S2_Unauthenticated } = core.SecurityClass;
  return {
    id,
    capabilities: {
      manufacturerId: 0x0371, productType: 0x0003, productId: 0x00af, firmwareVersion: "2.3",
      genericDeviceClass: 0x10, specificDeviceClass: 0x01,
      txDelay: TX_DELAY_MS,
      commandClasses: [
        ...EVERY_DEVICE,
        testing.ccCaps({ ccId: CC["Binary Switch"], version: 2, isSupported: true, secure, defaultValue: true }),
        meter(0, hooks),
        configuration(PLUG_PARAMETERS),
        ...(secure
          ? [CC["Security 2"], CC.Supervision].map((ccId) => ({ ccId, version: 1, isSupported: true }))
          : []),
      ],
      ...(secure ? { securityClasses: new Set([S2_Authenticated, S2_Unauthenticated]) } : {}),
    },
  };
}

// The label on the device. MockNode's own `dsk` is off by one byte.
export function deviceSpecificKey(node) {
  return core.dskToString(node.ecdhKeyPair.publicKey.slice(0, 16));
}

export const factorySetting = (node, parameter) => {
  const known = node.capabilities.genericDeviceClass === 0x31 ? HEM_PARAMETERS : PLUG_PARAMETERS;
  return known[parameter]?.[1];
};

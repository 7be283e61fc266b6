// The parts of zwave-js that the mock stick is made of, bundled once by tests/house/setup: one
// file starts in a fraction of the time of the packages, and needs no node_modules around it.
export * as testing from "@zwave-js/testing";
export * as serial from "@zwave-js/serial";
export * as serialapi from "@zwave-js/serial/serialapi";
export * as serialMock from "@zwave-js/serial/mock";
export * as behaviors from "zwave-js/Testing";
export * as core from "@zwave-js/core";
export * as cc from "@zwave-js/cc";

// Bundles the unmodified @zwave-js/server and what it needs into one folder a Node can run:
//
//     node bundle.mjs NODE_MODULES OUT x64|arm64
//
// NODE_MODULES is what `npm ci --ignore-scripts` made of this folder's package-lock.json. OUT is
// replaced. Only the serial binding differs between architectures, so any machine can bundle for
// any other. The same input gives the same bytes and times: SOURCE_DATE_EPOCH sets the latter.
import { realpathSync } from "node:fs";
import { cp, mkdir, readFile, readdir, rename, rm, utimes, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

const PACKAGES_READ_AT_RUN_TIME = ["zwave-js", "@zwave-js/server", "@zwave-js/config"];
const BINDINGS = {
  x64: ["linux-x64", "@serialport+bindings-cpp.glibc.node"],
  arm64: ["linux-arm64", "@serialport+bindings-cpp.armv8.glibc.node"],
};
const LICENCE_FILE = /^(licen[cs]e|copying|notice)([.-].*)?$/i;

const MIT_TERMS = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

const [modules, out, architecture] = process.argv.slice(2);
if (!modules || !out || !BINDINGS[architecture] || process.argv.length !== 5) {
  console.error("usage: node bundle.mjs NODE_MODULES OUT x64|arm64");
  process.exit(2);
}
// The bundle names each module by its path from here: the same wherever the packages lie.
const home = path.dirname(realpathSync(modules));
const from = (...parts) => path.join(home, "node_modules", ...parts);
const require = createRequire(path.join(home, "package.json"));
const building = `${path.resolve(out)}.new`;
const into = (...parts) => path.join(building, ...parts);

await rm(building, { recursive: true, force: true });
const bundled = await bundleServer();
await copySerialBinding();
await copyDeviceDatabase();
await writeLicences(bundled);
await setTimes(building, Number(process.env.SOURCE_DATE_EPOCH ?? 1767225600));
await rm(out, { recursive: true, force: true });
await rename(building, out);

// The server in one file. It finds its neighbours by paths relative to itself: the layout below
// OUT is what those paths expect (config two folders up, package.json two up, prebuilds one up).
async function bundleServer() {
  const { build } = require("esbuild");
  const { metafile } = await build({
    entryPoints: [from("@zwave-js/server/dist-esm/bin/server.js")],
    outfile: into("server", "bin", "zwave-server.cjs"),
    absWorkingDir: home,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    keepNames: true, // the driver finds command classes by their class names
    minifyWhitespace: true,
    metafile: true,
    logLevel: "error",
    define: { "import.meta.url": "bundle_url" },
    banner: { js: "const bundle_url = require('node:url').pathToFileURL(__filename).href;" },
    external: [
      ...PACKAGES_READ_AT_RUN_TIME.map((name) => `${name}/package.json`),
      "@zwave-js/config/config",
      "@zwave-js/config/build",
    ],
  });
  await cp(from("@zwave-js/server/package.json"), into("package.json"));
  for (const name of PACKAGES_READ_AT_RUN_TIME) {
    await mkdir(into("node_modules", name), { recursive: true });
    await cp(from(name, "package.json"), into("node_modules", name, "package.json"));
  }
  return Object.keys(metafile.inputs);
}

async function copySerialBinding() {
  const [folder, file] = BINDINGS[architecture];
  await mkdir(into("server", "prebuilds", folder), { recursive: true });
  await cp(
    from("@serialport/bindings-cpp/prebuilds", folder, file),
    into("server", "prebuilds", folder, file),
  );
}

// The driver writes an index of its device database at the first start, which takes seconds and
// memory and is impossible on a read-only root: it is made here, once.
async function copyDeviceDatabase() {
  const { ConfigManager } = await import(
    pathToFileURL(from("@zwave-js/config/build/esm/index.js")).href
  );
  await rm(from("@zwave-js/config/config/devices/index.json"), { force: true });
  await new ConfigManager().loadDeviceIndex();
  for (const part of ["devices", "manufacturers.json"])
    await cp(from("@zwave-js/config/config", part), into("config", part), { recursive: true });
}

// One text with the licence of every package that is inside the bundle.
async function writeLicences(inputs) {
  const folders = new Set(["@zwave-js/config", "@serialport/bindings-cpp"].map((n) => from(n)));
  for (const input of inputs) {
    const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path.resolve(home, input))?.[0];
    if (folder) folders.add(folder);
  }
  const chapters = [];
  for (const folder of [...folders].sort()) {
    const about = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    const files = (await readdir(folder)).filter((file) => LICENCE_FILE.test(file)).sort();
    const texts = files.map(async (file) => (await readFile(path.join(folder, file), "utf8")).trim());
    if (!files.length) texts.push(licenceByName(about));
    const title = `${about.name} ${about.version}`;
    chapters.push([title, "", ...(await Promise.all(texts)), ""].join("\n"));
  }
  await writeFile(into("LICENSES.txt"), chapters.join(`\n${"-".repeat(80)}\n\n`));
}

// Some packages name their licence in package.json and carry no text.
function licenceByName({ name, license, author }) {
  if (license !== "MIT") throw new Error(`${name} carries no licence text (${license})`);
  const by = typeof author === "string" ? author : author?.name;
  return `MIT License\n\nCopyright (c) ${by ?? `the authors of ${name}`}\n\n${MIT_TERMS}`;
}

// The driver takes its index for outdated when any device file is newer: all get the same time.
async function setTimes(folder, seconds) {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name);
    if (entry.isDirectory()) await setTimes(full, seconds);
    else await utimes(full, seconds, seconds);
  }
  await utimes(folder, seconds, seconds);
}

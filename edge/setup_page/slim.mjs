// slim.mjs FILE…: takes out of Pico what the page has none of, and the blanks and remarks of our own
// files, so that the first load stays light. Every file is written back in place.
import { readFileSync, writeFileSync } from "node:fs";

// Parts of Pico the page does not use: a selector that names one goes.
const UNUSED = [
  "details\\.dropdown|tooltip|dialog|modal|breadcrumb|article|hgroup|blockquote|figure|figcaption|kbd|\\bdfn\\b|\\bcite\\b",
  "role=(group|search|link|option|listbox|img)|type=(range|color|search|reset|image|tel)\\b",
  "\\.(contrast|outline|grid|container|container-fluid|dropdown|overflow-auto|striped)\\b|\\bt(able|h|d|r|foot|head|body)\\b",
  "^\\[data-theme=(dark|light)\\]|:host|::-ms-|aria-invalid=false|\\b(iframe|audio|canvas|video|address|abbr)\\b|^nav\\b|\\bnav (ol|ul|li|a)\\b",
].map((each) => new RegExp(each));

/** The rules of a sheet: [selectors, body]; quotes are passed over, since a drawing may hold a brace. */
function rules(sheet) {
  const found = [];
  for (let at = 0, open; (open = sheet.indexOf("{", at)) >= 0; ) {
    let end = open + 1, quote = "";
    for (let depth = 1; depth; end++) {
      const sign = sheet[end];
      if (quote) {
        if (sign === "\\") end++;
        else if (sign === quote) quote = "";
      } else if (sign === '"' || sign === "'") quote = sign;
      else if (sign === "{") depth++;
      else if (sign === "}") depth--;
    }
    found.push([sheet.slice(at, open), sheet.slice(open + 1, end - 1)]);
    at = end;
  }
  return found;
}

/** Split at commas that stand in no bracket. */
function selectors(text) {
  const found = [""];
  let depth = 0;
  for (const sign of text) {
    if ("([".includes(sign)) depth++;
    if (")]".includes(sign)) depth--;
    if (sign === "," && !depth) found.push("");
    else found[found.length - 1] += sign;
  }
  return found;
}

/** Whether a selector names a part the page has none of; what stands in :not() it does not name. */
const isUnused = (selector) => {
  const named = selector.replace(/:not\([^()]*\)/g, "");
  return UNUSED.some((sign) => sign.test(named));
};

function slim(sheet) {
  return rules(sheet)
    .map(([head, body]) => {
      if (head.startsWith("@media") || head.startsWith("@supports")) return [head, slim(body)];
      if (head.startsWith("@")) return [head, body];
      return [selectors(head).filter((each) => !isUnused(each)).join(","), body];
    })
    .filter(([head, body]) => head && body)
    .map(([head, body]) => `${head}{${body}}`)
    .join("");
}

for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, "utf-8");
  const licence = text.match(/\/\*![\s\S]*?\*\//)?.[0] ?? "";
  const bare = text.replace(/^@charset "UTF-8";/, "").replace(/\/\*[\s\S]*?\*\//g, "");
  writeFileSync(file, licence + slim(bare));
}

// The little that plain forms cannot do. No inline script exists; everything hangs on data- attributes.
"use strict";
(() => {
  // The page's language, as the browser's own country writes it: 14:05 or 2:05 pm.
  const plain = document.documentElement.lang;
  const lang = navigator.languages.find((each) => each.startsWith(plain)) ?? plain;

  const actions = {
    // Show or hide what is typed into a password field.
    "[data-show]": (button) => {
      const field = document.getElementById(button.dataset.show);
      const hidden = field.type === "password";
      field.type = hidden ? "text" : "password";
      button.setAttribute("aria-pressed", String(hidden));
      [button.textContent, button.dataset.hideText] = [button.dataset.hideText, button.textContent];
    },
  };
  document.addEventListener("click", (event) => {
    for (const [selector, act] of Object.entries(actions)) {
      const found = event.target.closest?.(selector);
      if (found) act(found);
    }
  });

  // Times arrive in UTC and are shown as the visitor's own clock has them.
  const styles = {
    time: { hour: "2-digit", minute: "2-digit" },
    second: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
    date: { dateStyle: "medium", timeStyle: "short" },
  };
  const localTimes = (root) => {
    for (const each of root.querySelectorAll("time[datetime]")) {
      const at = new Date(each.dateTime);
      if (!Number.isNaN(at.getTime())) {
        each.textContent = new Intl.DateTimeFormat(lang, styles[each.dataset.as] ?? styles.date).format(at);
      }
    }
  };

  // A file too large for a form is sent as it is, and one sees how far it is.
  const send = (form) => {
    const part = (selector) => form.querySelector(selector);
    const [shown, said, button] = [part("[data-progress]"), part("[data-said]"), part("[type=submit]")];
    const sending = new XMLHttpRequest();
    const over = (text) => {
      said.innerHTML = text;
      shown.hidden = true;
      button.disabled = false;
    };
    sending.upload.onprogress = ({ loaded, total }) => {
      const percent = Math.floor((100 * loaded) / total);
      part("progress").value = percent;
      part(".number").textContent = `${percent} %`;
    };
    sending.onload = () => {
      const elsewhere = sending.getResponseHeader("hx-redirect");
      if (sending.status < 300 || elsewhere) location.assign(elsewhere ?? form.dataset.then);
      else over(sending.responseText);
    };
    sending.onerror = () => {
      over("");
      said.append(Object.assign(document.createElement("p"), { className: "problem", textContent: form.dataset.lost }));
    };
    said.replaceChildren();
    shown.hidden = false;
    button.disabled = true;
    sending.open("POST", form.dataset.sendsFile);
    sending.setRequestHeader("hx-request", "true");
    sending.send(part("[type=file]").files[0]);
  };
  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.sendsFile) return;
    event.preventDefault();
    send(event.target);
  });

  // A form is sent once, however often the thumb hits the button.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (event.defaultPrevented || event.target.dataset.sent || event.target.hasAttribute("data-again")) return;
    event.target.dataset.sent = "1";
    if (button) setTimeout(() => button.setAttribute("aria-busy", "true"), 0);
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of document.querySelectorAll("button[aria-busy]")) button.removeAttribute("aria-busy");
  });

  // Parts of a form that matter only for one answer.
  const showFitting = (form) => {
    for (const part of form.querySelectorAll("[data-only-if]")) {
      const [name, wanted] = part.dataset.onlyIf.split("=");
      const field = form.querySelector(`[name="${CSS.escape(name)}"]:checked`) ?? form.elements[name];
      const value = field?.type === "checkbox" && !field.checked ? "" : field?.value;
      part.hidden = (value ?? "") !== wanted;
    }
  };
  for (const form of document.forms) showFitting(form);
  document.addEventListener("change", (event) => event.target.form && showFitting(event.target.form));

  // A photo of a SmartStart label becomes its digits, on the phone itself; the photo goes nowhere.
  const PHOTO_EDGE_MAX = 1600;
  const load = (address) =>
    new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: address, onload: done, onerror: failed });
      document.head.append(script);
    });
  const digitsIn = async (photo, reader) => {
    if (!globalThis.jsQR) await load(reader);
    const image = await createImageBitmap(photo);
    for (const edge of [PHOTO_EDGE_MAX, PHOTO_EDGE_MAX / 2, PHOTO_EDGE_MAX / 4]) {
      const scale = Math.min(1, edge / Math.max(image.width, image.height));
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [Math.round(image.width * scale), Math.round(image.height * scale)];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
      const found = globalThis.jsQR(pixels.data, canvas.width, canvas.height);
      if (found?.data) return found.data;
    }
    return null;
  };
  for (const field of document.querySelectorAll("[data-reads-code]")) {
    field.addEventListener("change", async () => {
      const said = document.getElementById("photo-said");
      const code = await digitsIn(field.files[0], field.dataset.reader).catch(() => null);
      said.hidden = false;
      said.className = code ? "said" : "problem";
      said.textContent = code ? field.dataset.found : field.dataset.none;
      if (code) document.getElementById(field.dataset.readsCode).value = code;
    });
  }

  // One day of one sensor.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = async (chart) => {
    const answer = await fetch(chart.dataset.series);
    if (!answer.ok) return;
    const series = await answer.json();
    const start = Date.parse(series.start) / 1000;
    const lines = series.values ? [series.values] : [series.measured, series.planned];
    const times = lines[0].map((_, at) => start + at * series.resolution_s);
    chart.replaceChildren();
    if (!lines.flat().some((value) => value !== null)) {
      chart.textContent = chart.dataset.empty;
      return;
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit" });
    const now = Date.now() / 1000;
    const untilNow = (plot) => {
      const at = Math.round(plot.valToPos(now, "x", true));
      const { left, top, width, height } = plot.bbox;
      if (at < left || at > left + width) return;
      plot.ctx.save();
      plot.ctx.fillStyle = colour("--soft");
      plot.ctx.fillRect(at, top, devicePixelRatio, height);
      plot.ctx.restore();
    };
    new uPlot(
      {
        hooks: lines.length > 1 ? { draw: [untilNow] } : {},
        width: chart.clientWidth,
        height: chart.clientHeight,
        legend: { show: lines.length > 1, live: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: true } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((at) => clock.format(new Date(at * 1000))) },
          { ...axis, size: 56, values: (_, ticks) => ticks.map((v) => `${v} ${series.unit}`) },
        ],
        series: [
          {},
          {
            label: chart.dataset.measured,
            stroke: colour("--lead"), width: 2, fill: colour("--lead-wash"), points: { show: false }, spanGaps: false,
          },
          { label: chart.dataset.planned, stroke: colour("--ask"), width: 2, dash: [6, 4], points: { show: false } },
        ].slice(0, lines.length + 1),
      },
      [times, ...lines],
      chart,
    );
  };
  const drawAll = () => document.querySelectorAll(".chart[data-series]").forEach(draw);
  drawAll();
  setInterval(() => document.hidden || drawAll(), 60000);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(drawAll, 250);
  });

  // Live values of the map are put beside rows that somebody may be editing.
  const putValues = () => {
    for (const fresh of document.querySelectorAll("[data-value-of]")) {
      const shown = document.querySelector(`[data-value="${CSS.escape(fresh.dataset.valueOf)}"]`);
      if (shown) shown.textContent = fresh.textContent;
    }
  };

  // Seconds that run down between two messages of the box.
  setInterval(() => {
    for (const shown of document.querySelectorAll("[data-countdown]")) {
      const left = Math.max(0, Number(shown.dataset.countdown) - 1);
      shown.dataset.countdown = left;
      const clock = [left / 3600, (left / 60) % 60, left % 60].map((part) => Math.floor(part));
      shown.textContent = shown.dataset.as === "clock"
        ? clock.map((part) => String(part).padStart(2, "0")).join(":").replace(/^00:0?/, "")
        : shown.dataset.words.replace("#", left);
    }
  }, 1000);

  // The house most likely stands where its browser is.
  const zone = document.querySelector("[data-own-zone]");
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && [...zone.options].some((each) => each.value === here)) zone.value = here;
  for (const field of document.querySelectorAll("input[name=browser_zone]")) field.value = here;

  const reload = document.querySelector("[data-reload-s]");
  if (reload) setTimeout(() => location.reload(), Number(reload.dataset.reloadS) * 1000);

  localTimes(document);
  document.addEventListener("htmx:after:swap", () => {
    localTimes(document);
    putValues();
  });
})();

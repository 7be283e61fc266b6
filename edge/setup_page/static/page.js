// The little that plain forms cannot do. No inline script exists; everything hangs on data- attributes.
"use strict";
(() => {
  const lang = document.documentElement.lang;

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

  const reload = document.querySelector("[data-reload-s]");
  if (reload) setTimeout(() => location.reload(), Number(reload.dataset.reloadS) * 1000);

  localTimes(document);
  document.addEventListener("htmx:after:swap", () => localTimes(document));
})();

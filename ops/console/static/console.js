// What the pages do beyond what HTML does: stay current, keys, the clock. Every page works without it.
"use strict";

(() => {
  const body = document.body;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // -- live parts: events while somebody looks, asked for again and again where events do not come through ----------
  const POLL_MS = 5000;

  class LivePart {
    constructor(element) {
      this.element = element;
      this.url = element.dataset.live;
      this.failures = 0;
      this.look();
      document.addEventListener("visibilitychange", () => this.look());
    }

    look() {
      if (document.hidden) return this.pause();
      if (this.failures < 3) this.listen();
      else this.poll();
    }

    pause() {
      if (this.events) this.events.close();
      clearTimeout(this.timer);
      this.events = this.timer = null;
    }

    listen() {
      if (this.events) return;
      this.events = new EventSource(this.url);
      this.events.onmessage = (message) => {
        this.failures = 0;
        this.show(message.data);
      };
      this.events.onerror = () => {
        this.failures += 1;
        if (this.events.readyState === EventSource.CLOSED || this.failures >= 3) {
          this.pause();
          this.failures = 3;
          this.poll();
        }
      };
    }

    async poll() {
      clearTimeout(this.timer);
      try {
        const mark = this.url.includes("?") ? "&" : "?";
        const answer = await fetch(`${this.url}${mark}once=1`, { redirect: "error" });
        if (answer.ok) this.show(await answer.text());
        document.querySelector("[data-trouble]")?.toggleAttribute("hidden", answer.ok);
      } catch {
        document.querySelector("[data-trouble]")?.removeAttribute("hidden");
      }
      if (!document.hidden) this.timer = setTimeout(() => this.poll(), POLL_MS);
    }

    show(html) {
      // Nobody loses what they are about to click: a part that holds the focus or a selection waits.
      const picked = getSelection();
      if (this.element.contains(document.activeElement)) return;
      if (picked && !picked.isCollapsed && this.element.contains(picked.anchorNode)) return;
      this.element.innerHTML = html;
      if (window.htmx) window.htmx.process(this.element);
    }
  }

  all("[data-live]").forEach((element) => new LivePart(element));

  // -- the clock ----------------------------------------------------------------------------------------------------
  const clock = document.getElementById("clock");
  if (clock) {
    const ahead = Date.parse(clock.dateTime) - Date.now();
    const show = () => {
      const now = new Date(Date.now() + ahead + 8 * 3600 * 1000);
      clock.textContent = now.toISOString().slice(11, 19);
    };
    setInterval(show, 1000);
  }

  // -- loading and trouble ------------------------------------------------------------------------------------------
  let last = null;
  const trouble = document.querySelector("[data-trouble]");
  const tell = (shown) => trouble && trouble.toggleAttribute("hidden", !shown);
  body.addEventListener("htmx:beforeRequest", (event) => { last = event.detail.elt; tell(false); });
  body.addEventListener("htmx:responseError", () => tell(true));
  body.addEventListener("htmx:sendError", () => tell(true));
  document.querySelector("[data-again]")?.addEventListener("click", () => {
    if (last && last.isConnected && window.htmx) window.htmx.trigger(last, "submit");
    else location.reload();
  });

  // -- selecting ----------------------------------------------------------------------------------------------------
  const count = () => all("[data-count-selected]").forEach((place) => {
    const boxes = all("tbody input[type=checkbox]");
    place.textContent = String(boxes.filter((box) => box.checked).length);
  });
  body.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-select-all]")) {
      const rows = box.closest("table") || document.getElementById(box.dataset.selectAll);
      all("tbody input[type=checkbox]", rows).forEach((each) => { each.checked = box.checked; });
    }
    if (box.matches("input[type=checkbox]")) count();
  });

  // -- keys ---------------------------------------------------------------------------------------------------------
  const keys = document.getElementById("keys");
  const button = document.querySelector("[data-keys]");
  if (button && keys) {
    button.hidden = false;
    button.addEventListener("click", () => keys.showModal());
  }
  let going = 0;
  let current = null;

  const rows = () => all("[data-row]");
  const step = (by) => {
    const found = rows();
    if (!found.length) return;
    const at = found.indexOf(current);
    current = found[Math.min(found.length - 1, Math.max(0, at + by))];
    found.forEach((row) => row.classList.toggle("current", row === current));
    current.scrollIntoView({ block: "nearest" });
    const link = current.querySelector("a");
    if (link) link.focus({ preventScroll: true });
  };

  const pressed = {
    "/": () => {
      const field = document.querySelector("[data-search]");
      if (field) field.focus();
      else location.assign(document.querySelector("a[data-go=n]").href);
    },
    "?": () => keys && keys.showModal(),
    j: () => step(1),
    k: () => step(-1),
    x: () => current && current.querySelector("input[type=checkbox]")?.click(),
    g: () => { going = Date.now(); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    if (keys && keys.open) return;
    if (Date.now() - going < 1200) {
      going = 0;
      const link = document.querySelector(`a[data-go="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        location.assign(link.href);
        return;
      }
    }
    const act = pressed[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
})();

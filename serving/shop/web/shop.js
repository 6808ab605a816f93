/* What the shop's pages do in the browser: send Segment messages to /v1, and let the page hear that something was told.
   A form of class `say` carries the messages that it sends; `$name` in them stands for the field of that name. */
"use strict";
(() => {
  const meta = (name) => document.querySelector(`meta[name="onestory-${name}"]`)?.content ?? "";
  const key = meta("write-key");
  const said = () => document.getElementById("said");

  function filled(value, fields) {
    if (typeof value === "string") return value.startsWith("$") && fields.has(value.slice(1)) ? String(fields.get(value.slice(1))).trim() : value;
    if (Array.isArray(value)) return value.map((each) => filled(each, fields));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each, fields)]));
    return value;
  }

  async function tell(messages, keepalive) {
    const batch = messages.map((message) => ({ messageId: `shop-${crypto.randomUUID()}`, ...message }));
    const headers = { "Content-Type": "application/json" };
    if (key) headers.Authorization = `Basic ${btoa(`${key}:`)}`;
    const answer = await fetch("/v1/batch", { method: "POST", headers, keepalive, body: JSON.stringify({ batch, sentAt: new Date().toISOString() }) });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail || `the service answered ${answer.status}`);
    if (told.rejected.length) throw new Error(told.rejected[0].problem);
  }

  function heard() {
    document.body.dispatchEvent(new CustomEvent("told"));
    for (const widget of document.querySelectorAll("onestory-offers")) widget.refresh?.();
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form.say")) return;
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    try {
      await tell(filled(JSON.parse(form.dataset.messages), new FormData(form)));
      if (form.dataset.then) return location.assign(form.dataset.then);
      said().textContent = `Told Onestory: ${button.textContent.trim()}`;
      heard();
    } catch (problem) {
      said().textContent = `Not told: ${problem.message}`;
    }
    button.disabled = false;
  });

  // Which parts of the drawer are open survives its renewal, and so does the place of the focus.
  let open = null, focused = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 204 || event.detail.target.id !== "drawer") return;
    open = [...document.querySelectorAll("#drawer details.channel")].map((each) => [each.id, each.open]);
    focused = document.activeElement?.closest("#drawer") ? document.activeElement.textContent : null;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const [id, was] of open ?? []) document.getElementById(id)?.toggleAttribute("open", was);
    if (focused) [...document.querySelectorAll("#drawer button, #drawer summary")].find((each) => each.textContent === focused)?.focus();
    open = focused = null;
  });

  const views = JSON.parse(document.getElementById("main").dataset.views);
  const kept = `onestory-shop-${meta("window").split(".")[0]}`;
  const asked = new URL(location.href);
  if (asked.searchParams.has("keep")) {
    const before = localStorage.getItem(kept);
    asked.searchParams.delete("keep");
    if (before) { asked.searchParams.set("w", before); location.replace(asked); return; }
    history.replaceState(null, "", asked);
  }
  localStorage.setItem(kept, meta("window"));
  if (views.length) tell(views, true).then(heard, (problem) => { said().textContent = `Not told: ${problem.message}`; });
})();

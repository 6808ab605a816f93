/* What the shop's pages do in the browser: send Segment messages to /v1, and draw what the widget shows.
   A form of class `say` carries the messages that it sends; `$name` in them stands for the field of that name. */
"use strict";
(() => {
  const meta = (name) => document.querySelector(`meta[name="onestory-${name}"]`)?.content ?? "";
  const key = meta("write-key"), me = meta("anonymous-id"), name = meta("window");
  const main = document.getElementById("main"), said = document.getElementById("said");
  const LONGEST_MS = 8000;

  // ---- telling

  function filled(value, fields) {
    if (typeof value === "string") return value.startsWith("$") && fields.has(value.slice(1)) ? String(fields.get(value.slice(1))).trim() : value;
    if (Array.isArray(value)) return value.map((each) => filled(each, fields));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([part, each]) => [part, filled(each, fields)]));
    return value;
  }

  // What the visitor does goes the widget's way, which sends it again until it has arrived; the rest is the staff's.
  const isMine = (message) => window.onestory?.track && message.type === "track" && message.anonymousId === me && !message.userId;

  async function tell(messages) {
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error("no answer yet; it is sent again as soon as the service is back")), LONGEST_MS));
    const mine = messages.filter(isMine).map(({ event, properties, ...options }) => onestory.track(event, properties, options));
    if ((await Promise.race([Promise.all(mine), late])).includes(false)) throw new Error("the service refused it");
    const others = messages.filter((message) => !isMine(message));
    if (others.length) await Promise.race([post(others), late]);
    if (others.length) window.onestory?.refresh?.();
    document.body.dispatchEvent(new CustomEvent("told"));
  }

  async function post(messages) {
    const batch = messages.map((message) => ({ messageId: `shop-${crypto.randomUUID()}`, ...message }));
    const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Basic ${btoa(`${key}:`)}` }) };
    const answer = await fetch("/v1/batch", { method: "POST", headers, body: JSON.stringify({ batch, sentAt: new Date().toISOString() }) });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail || `the service answered ${answer.status}`);
    if (told.rejected.length) throw new Error(told.rejected[0].problem);
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
      said.textContent = `Told Onestory: ${(button.ariaLabel || button.textContent).trim()}`;
    } catch (problem) {
      said.textContent = `Not told: ${problem.message}`;
    }
    button.disabled = false;
    setTimeout(() => { said.textContent = ""; }, 4000);
  });

  // ---- drawing what the widget shows: it knows ids, the shop knows names and pictures

  const link = (path) => `/shop/${path}?w=${encodeURIComponent(name)}`;

  document.addEventListener("onestory:offers", async ({ target, detail }) => {
    const asked = new URLSearchParams({ w: name });
    for (const offer of detail.offers) {
      if (offer.product_id) asked.append("product", offer.product_id);
      if (offer.fulfilment) asked.append("place", offer.fulfilment.location_id);
    }
    const labels = await (await fetch(`/shop/labels?${asked}`)).json();
    for (const offer of detail.offers) {
      const node = [...target.querySelectorAll("li.onestory-offer")].find((each) => each.dataset.offer === offer.offer_id);
      const to = node?.querySelector(".to"), seen = labels.products[offer.product_id];
      if (!to || to.href) continue;
      to.href = seen ? link(`p/${encodeURIComponent(offer.product_id)}`) : link(offer.kind === "cart_recovery" ? "cart" : "");
      if (!seen) continue;
      const picture = to.querySelector(".picture");
      picture.className = `picture ${seen.hue} ${seen.shade}`;
      picture.querySelector("use").setAttribute("href", `#s-${seen.shape}`);
      const title = to.querySelector("strong");
      if (!title.textContent.includes(seen.name)) title.insertAdjacentElement("afterend", Object.assign(document.createElement("span"), { className: "meta", textContent: seen.name }));
      if (offer.fulfilment) reservable(node, offer, labels.places[offer.fulfilment.location_id] ?? offer.fulfilment.location_id);
    }
  });

  function reservable(node, offer, place) {
    node.querySelector(".place").remove();
    node.classList.add("reservable");
    const form = document.createElement("form"), button = document.createElement("button");
    form.className = "say";
    const level = { product_id: offer.product_id, location_id: offer.fulfilment.location_id, quantity: 1 };
    form.dataset.messages = JSON.stringify([{ type: "track", event: "Stock Reserved", properties: level }]);
    button.className = "button small primary";
    button.textContent = `Reserve in store: ${place}`;
    form.append(button);
    node.append(form);
  }

  // ---- the drawer: what is open in it survives its renewal, and so does the place of the focus

  let open = null, focused = null;
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.xhr.status === 204 || detail.target.id !== "drawer") return;
    open = [...document.querySelectorAll("#drawer details.channel")].map((each) => [each.id, each.open]);
    focused = document.activeElement?.closest("#drawer") ? document.activeElement.textContent : null;
  });
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id === "drawer" && open) document.body.dispatchEvent(new CustomEvent("changed"));
    for (const [id, was] of open ?? []) document.getElementById(id)?.toggleAttribute("open", was);
    if (focused) [...document.querySelectorAll("#drawer button, #drawer summary")].find((each) => each.textContent === focused)?.focus();
    open = focused = null;
  });

  // ---- begin: the entry goes on with the visitor that this browser had on this device before

  const kept = `onestory-shop-${name.split(".")[0]}`, here = new URL(location.href);
  try {
    const before = localStorage.getItem(kept);
    if (here.searchParams.has("keep")) {
      here.searchParams.delete("keep");
      if (before) { here.searchParams.set("w", before); location.replace(here); return; }
      history.replaceState(null, "", here);
    }
    localStorage.setItem(kept, name);
  } catch { /* no storage: a new visitor each time */ }
  const views = JSON.parse(main.dataset.views);
  if (views.length) tell(views).catch((problem) => { said.textContent = `Not told: ${problem.message}`; });
})();

/* Onestory's widget: next best offers on any page, as docs/integrate.md says.

     <script async src="https://onestory.example/widget.js" data-write-key="…"></script>
     <onestory-offers placement="home" limit="3">what to show until offers come, and when none come</onestory-offers>

   One file, no build. What comes from the service is shown as text; the element's box keeps its size. */
(() => {
  'use strict'
  const NAME = 'onestory-offers'
  if (customElements.get(NAME)) return

  const script = document.currentScript || document.querySelector('script[src*="widget.js"]')
  const given = script ? script.dataset : {}
  const BASE = (given.endpoint || (script ? new URL('.', script.src).href : location.origin)).replace(/\/$/, '')
  const TIMEOUT_MS = 1500, SEEN_MS = 1000, MOST_KEPT = 200, AT_ONCE = 20, MOST_OFFERS = 20, DAY_MS = 864e5
  const HTML_CHANNELS = ['web', 'app', 'email'] // their treatments come with names escaped for HTML

  // ---- what is kept: in localStorage, one key a thing (tabs cannot undo each other's writes), else in memory

  const memory = new Map(), PREFIX = 'onestory:'
  const disk = (use) => { try { return use(localStorage) } catch { return undefined } }
  const kept = {
    get: (key) => disk((it) => it.getItem(PREFIX + key)) ?? memory.get(key) ?? null,
    set(key, value) {
      if (disk((it) => (it.setItem(PREFIX + key, value), true))) memory.delete(key)
      else memory.set(key, value)
    },
    remove(key) { memory.delete(key); disk((it) => it.removeItem(PREFIX + key)) },
    keys: (start) => [...(disk((it) => Object.keys(it)) || []).filter((key) => key.startsWith(PREFIX + start))
      .map((key) => key.slice(PREFIX.length)), ...[...memory.keys()].filter((key) => key.startsWith(start))],
  }
  const read = (text) => { try { return JSON.parse(text) } catch { return null } }
  const unique = () => crypto.randomUUID ? crypto.randomUUID() // on https
    : Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')

  // Who: an id of the page, of a Segment client, or made here.
  function anonymous() {
    const segments = read(disk((it) => it.getItem('ajs_anonymous_id')))
    const known = given.anonymousId || (typeof segments === 'string' && segments) || kept.get('anonymous')
    if (known) return known
    const made = unique()
    kept.set('anonymous', made)
    return made
  }

  // ---- what is sent: it stays in the outbox until it is answered, and what arrives twice counts once (messageId)

  const waiting = new Map() // messageId → what to call when it has been answered
  let sending = null, more = false, retry = 0, failures = 0

  function say(message, to, wait) {
    const told = { messageId: unique(), timestamp: new Date().toISOString(), ...message }
    for (const { key } of outbox().slice(0, 1 - MOST_KEPT)) kept.remove(key) // the oldest
    kept.set('out:' + told.messageId, JSON.stringify({ to, message: told }))
    const answered = new Promise((resolve) => waiting.set(told.messageId, resolve))
    if (wait) setTimeout(flush, 100) // for others of its kind
    else flush()
    return answered
  }

  const outbox = () => kept.keys('out:').map((key) => ({ key, ...read(kept.get(key)) }))
    .filter((one) => one.message && one.to).sort((a, b) => (a.message.timestamp < b.message.timestamp ? -1 : 1))

  function batches() {
    const groups = new Map()
    for (const one of outbox()) {
      const target = JSON.stringify(one.to), last = (groups.get(target) || groups.set(target, [[]]).get(target))
      if (last[last.length - 1].length === AT_ONCE) last.push([])
      last[last.length - 1].push(one)
    }
    return [...groups.values()].flat()
  }

  // As text/plain with the key inside: needs no preflight, and a beacon can send it.
  const body = (batch) => JSON.stringify({
    batch: batch.map((one) => one.message), sentAt: new Date().toISOString(), writeKey: batch[0].to.key || undefined,
  })
  const post = (url, body, more) => fetch(url, { method: 'POST', body, credentials: 'omit', ...more })
  const address = (batch) => batch[0].to.base + '/v1/batch'

  function flush() {
    more = Boolean(sending) // what comes while the last answer is being told needs another turn
    sending ||= Promise.resolve().then(deliver).catch(later).then(() => {
      sending = null
      if (more) flush()
    })
  }

  async function deliver() { // in a microtask: what is said at once goes in one request
    clearTimeout(retry)
    for (let todo; (todo = batches()).length;) {
      for (const batch of todo) {
        const text = body(batch), keepalive = text.length < 6e4
        const answer = await post(address(batch), text, { keepalive })
        if (answer.status === 429 || answer.status >= 500) return later(answer)
        const { rejected = batch.map((one) => one.message), ...said } = await answer.json()
        if (rejected.length) console.warn('onestory: refused', said.detail, rejected)
        failures = 0
        for (const { key, message } of batch) {
          kept.remove(key)
          waiting.get(message.messageId)?.(!rejected.some(({ messageId }) => messageId === message.messageId))
          waiting.delete(message.messageId)
        }
        if (batch.some((one) => changes(one.message))) refresh()
      }
    }
  }

  const changes = ({ type, properties }) => // what is on offer; that something was seen does not
    type === 'identify' || !['shown', 'clicked'].includes(properties.response)

  function later(answer) {
    const asked = Number(answer.headers?.get('retry-after')) * 1000
    clearTimeout(retry)
    retry = setTimeout(flush, asked || Math.min(6e4, 1000 * 2 ** failures++) * (0.5 + Math.random() / 2))
  }

  function beacon() { // the page may be gone in a moment
    for (const batch of batches()) {
      navigator.sendBeacon(address(batch), new Blob([body(batch)], { type: 'text/plain' }))
    }
  }

  // ---- window.onestory: Segment's calls

  const elements = new Set()
  const target = (element) => ({
    base: (element?.getAttribute('endpoint') || BASE).replace(/\/$/, ''),
    key: element?.getAttribute('write-key') || given.writeKey || '',
  })
  const context = (options) => ({
    channel: given.channel || 'web', ...(given.locationId && { location_id: given.locationId }), ...options?.context,
  })
  const once = (options) => options?.messageId && { messageId: options.messageId }
  const who = () => {
    const page = [...elements].map((element) => element.getAttribute('customer-id')).find(Boolean)
    const userId = page || given.customerId || kept.get('user')
    return { anonymousId: anonymous(), ...(userId && { userId }) }
  }

  const api = {
    track(event, properties, options) {
      const [decision_id, at] = read(kept.get('clicked')) || []
      const came = event === 'Order Completed' && Date.now() - at < DAY_MS && { decision_id }
      const message = { type: 'track', event, properties: { ...came, ...properties } }
      return say({ ...message, ...who(), ...once(options), context: context(options) }, target())
    },
    identify(userId, traits, options) {
      if (userId && typeof userId === 'object') [userId, traits] = [null, userId]
      if (userId != null) {
        const before = kept.get('user')
        if (before && before !== String(userId)) api.reset() // somebody else
        kept.set('user', String(userId))
      }
      return say({ type: 'identify', traits: traits || {}, ...who(), context: context(options) }, target())
    },
    reset() { for (const key of ['user', 'joined', 'anonymous', 'clicked']) kept.remove(key) },
    refresh: () => refresh(),
  }

  // ---- what is asked

  const due = new Set()
  let planned = false

  function refresh(some = elements) {
    for (const element of some) due.add(element)
    if (planned || !due.size) return
    planned = true
    const parsed = document.readyState === 'loading' // those that are still to come share the request
      ? new Promise((resolve) => document.addEventListener('DOMContentLoaded', resolve, { once: true })) : Promise.resolve()
    parsed.then(() => {
      planned = false
      const wanted = new Set([...due].map((element) => element.question()))
      due.clear()
      for (const question of wanted) answer(question)
    })
  }

  const latest = new Map() // question → how often it was asked: an older answer must not undo a newer one

  async function answer(question) {
    const turn = (latest.get(question) || 0) + 1
    latest.set(question, turn)
    const group = sharing(question)
    if (!group.length) return
    const limit = Math.min(MOST_OFFERS, group.reduce((sum, element) => sum + element.limit, 0))
    const decision = await decide(JSON.parse(question), limit, group[0].timeout)
    if (latest.get(question) !== turn) return
    const offers = decision ? decision.offers.filter(({ offer_id }) => !dismissed.has(offer_id)) : []
    const stays = (element) => (offer) => element.items.some((item) => item.key === keyOf(offer))
    const news = offers.filter((offer) => !group.some((element) => stays(element)(offer)))
    for (const element of sharing(question)) {
      const own = offers.filter(stays(element)).slice(0, element.limit)
      if (decision) element.show(decision, [...own, ...news.splice(0, element.limit - own.length)])
      else if (!element.items.length) element.tell('fallback')
    }
  }

  const sharing = (question) => [...elements].filter((element) => element.question() === question)
    .sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1))

  async function decide({ base, key, customer, ...asked }, limit, timeout) {
    const abort = new AbortController()
    const timer = setTimeout(() => abort.abort(), timeout)
    const inTime = new Promise((resolve) => abort.signal.addEventListener('abort', resolve))
    try {
      const before = kept.get('joined')
      if (customer && before !== customer) {
        if (before) api.reset()
        kept.set('joined', customer)
        // A write key decides by an anonymous id alone, so the login that the page knows is joined to it, once.
        const login = { type: 'identify', userId: customer, anonymousId: anonymous(), traits: {}, context: { channel: asked.channel } }
        if (key) await Promise.race([say(login, { base, key }), inTime])
      }
      if (customer && !key) asked.customer_id = customer
      else asked.anonymous_id = anonymous()
      const answer = await post(base + '/decide', JSON.stringify({ ...asked, limit }), {
        signal: abort.signal, headers: key ? { authorization: 'Basic ' + btoa(key + ':') } : {},
      })
      const decision = answer.ok && (await answer.json())
      return decision && Array.isArray(decision.offers)
        ? { ...decision, asked: asked.customer_id ? { userId: customer } : { anonymousId: asked.anonymous_id }, to: { base, key } }
        : null
    } catch {
      return null // down, slow or refused: the page's own content stays
    } finally {
      clearTimeout(timer)
    }
  }

  // ---- what is seen

  const watched = new Map() // an offer's node → its item
  const dismissed = new Set() // on this page; an answer that was on its way does not bring it back
  const eyes = new IntersectionObserver((entries) => {
    for (const { target: node, isIntersecting, intersectionRatio, intersectionRect } of entries) {
      const item = watched.get(node)
      if (!item) continue
      item.inView = isIntersecting && (intersectionRatio >= 0.5 || intersectionRect.height >= innerHeight / 2)
      look(item)
    }
  }, { threshold: [0, 0.25, 0.5, 0.75, 1] })

  function look(item) { // shown: at least half of it, for a second without a break, in a tab that is in front
    const sees = item.inView && document.visibilityState === 'visible'
    if (!sees) { clearTimeout(item.timer); item.timer = 0 }
    else item.timer ||= setTimeout(() => respond(item, 'shown'), SEEN_MS)
  }

  function respond(item, response) {
    if (item.told[response]) return
    item.told[response] = true
    const { offer, decision, element } = item
    if (response === 'dismissed') dismissed.add(offer.offer_id)
    if (response === 'clicked') kept.set('clicked', JSON.stringify([decision.decision_id, Date.now()]))
    const { decision_id } = decision, { offer_id, product_id, rank } = offer
    say({
      type: 'track', event: 'Offer Responded', messageId: `response:${decision_id}:${response}-${rank}`,
      properties: { decision_id, offer_id, response, ...(product_id && { product_id }) },
      ...decision.asked, context: { channel: decision.channel },
    }, decision.to, response === 'shown')
    element.tell(response, { offer, decision_id })
  }

  // ---- what is shown

  const keyOf = ({ offer_id, product_id, fulfilment, treatment }) => JSON.stringify([offer_id, product_id, fulfilment, treatment])
  const CHARACTERS = { amp: '&', lt: '<', gt: '>', quot: '"', nbsp: '\u00a0' }
  const unescaped = (text) => text.replace(/<\/?[a-z][^<>]*>/gi, '')
    .replace(/&(?:#(\d{1,6})|#x([\da-f]{1,5})|([a-z]+));/gi, (all, decimal, hex, name) =>
      name ? CHARACTERS[name.toLowerCase()] || all : String.fromCodePoint(decimal ? +decimal : parseInt(hex, 16)))

  function safe(text) { // addresses of the web only: no javascript:, no data:
    try { return text && /^https?:/.test(text = new URL(text, document.baseURI).href) && text } catch { return null }
  }

  function made(tag, name, ...children) {
    const node = document.createElement(tag)
    if (name) node.dataset.onestory = name
    node.append(...children)
    return node
  }

  function usual() { // where the page has no <template>
    const cross = made('button', 'dismiss', '×'), picture = made('img', 'image_url')
    cross.type = 'button'
    picture.loading = 'lazy'
    const parts = new DocumentFragment()
    parts.append(made('a', 'url', picture, made('strong', 'title'), made('span', 'body')), cross)
    return parts
  }

  const STYLES = sheet(':host{display:block;position:relative}:host([hidden]){display:none}' +
    '.on .own{visibility:hidden}.offers{display:none}.on .offers{display:block}' +
    '.fixed .offers{position:absolute;inset:0;overflow:auto}')
  // Specificity 0: any rule of the page's own wins.
  const LOOKS = sheet(':where(.onestory-offers){display:grid;gap:1rem;margin:0;padding:0;list-style:none;' +
    'grid-template-columns:repeat(auto-fill,minmax(min(100%,13rem),1fr))}' +
    ':where(.onestory-offer){position:relative;display:grid;min-width:0}' +
    ':where([data-onestory=url]){display:flex;flex-direction:column;gap:.35rem;color:inherit;text-decoration:none;' +
    'border:1px solid #8888;padding:1rem 2.75rem 1rem 1rem}' +
    ':where([data-onestory=image_url]){width:100%;aspect-ratio:4/3;object-fit:cover}' +
    ':where([data-onestory=dismiss]){position:absolute;top:.35rem;right:.35rem;width:2rem;height:2rem;font:inherit;' +
    'font-size:1.1rem;line-height:1;border:0;border-radius:50%;background:none;color:inherit;cursor:pointer}')

  function sheet(text) { // made so it is no inline style, which a strict Content-Security-Policy would refuse
    const made = new CSSStyleSheet()
    made.replaceSync(text)
    return made
  }

  class Offers extends HTMLElement {
    static observedAttributes = ['placement', 'limit', 'channel', 'customer-id', 'product-id', 'cart', 'location-id']

    constructor() {
      super()
      this.items = []
      const root = this.attachShadow({ mode: 'open' }), layer = made('slot')
      layer.name = 'onestory'
      this.frame = made('div', '', made('div', '', made('slot')), made('div', '', layer))
      this.frame.firstChild.className = 'own'
      this.frame.lastChild.className = this.frame.lastChild.part = 'offers'
      root.append(this.frame)
      root.adoptedStyleSheets = [STYLES]
    }

    connectedCallback() { elements.add(this); refresh([this]) }
    disconnectedCallback() {
      elements.delete(this)
      for (const item of this.items) this.forget(item)
      this.items = []
      this.list?.remove()
      this.list = null
      this.frame.className = ''
    }
    attributeChangedCallback(_, before, now) { if (this.isConnected && before !== now) refresh([this]) }

    get limit() { return Math.max(1, Math.min(MOST_OFFERS, parseInt(this.getAttribute('limit'), 10) || 3)) }
    get timeout() { return Number(this.getAttribute('timeout') || given.timeout) || TIMEOUT_MS }

    question() { // what is asked, all but how many: elements with the same question share the answer
      const of = (name, key) => this.getAttribute(name) || given[key]
      const cart = (this.getAttribute('cart') || '').split(/[\s,]+/).filter(Boolean)
      return JSON.stringify({
        ...target(this), customer: of('customer-id', 'customerId') || undefined, placement: of('placement') || 'home',
        channel: of('channel', 'channel') || 'web', product_id: of('product-id') || undefined,
        location_id: of('location-id', 'locationId') || undefined, cart: cart.length ? cart : undefined,
      })
    }

    tell(kind, detail = {}) { this.dispatchEvent(new CustomEvent('onestory:' + kind, { bubbles: true, detail })) }

    /** What stays keeps its node, its place and the decision that first showed it; what is new takes the free places. */
    show(decision, offers) {
      const active = this.getRootNode().activeElement, had = this.list?.contains(active)
      if (!had && this.contains(active)) { // not from under somebody's hands
        return this.addEventListener('focusout', () => refresh([this]), { once: true })
      }
      const fresh = new Map(offers.map((offer) => [keyOf(offer), offer]))
      const places = this.items.map((item) => (fresh.delete(item.key) ? item : null))
      const news = [...fresh].map(([key, offer]) => this.item(key, offer, decision))
      const next = [...places.map((item) => item || news.shift()).filter(Boolean), ...news]
      for (const item of this.items) if (!next.includes(item)) this.forget(item)
      this.items = next
      if (next.length && !this.list) this.open()
      next.forEach(({ node }, at) => { if (this.list.children[at] !== node) this.list.insertBefore(node, this.list.children[at] || null) })
      if (!next.length) this.frame.className = ''
      else if (!this.frame.className) this.frame.className = this.offsetHeight > 0 ? 'on fixed' : 'on'
      if (next.length && this.frame.className === 'on') this.style.minHeight = this.offsetHeight + 'px'
      if (had && !this.list.contains(active)) this.list.focus()
      for (const { node } of news) eyes.observe(node)
      this.tell('offers', { decision, offers })
    }

    open() {
      this.list = made('ul')
      this.list.className = 'onestory-offers'
      this.list.slot = 'onestory'
      this.list.tabIndex = -1
      this.list.setAttribute('role', 'list')
      this.list.setAttribute('aria-label', this.getAttribute('label') || 'Offers')
      this.append(this.list)
    }

    item(key, offer, decision) {
      const node = made('li'), item = { key, offer, decision, element: this, node, told: {} }
      const named = this.getAttribute('template')
      const template = (named && document.getElementById(named)) || this.querySelector(':scope > template')
      node.className = 'onestory-offer'
      node.dataset.offer = offer.offer_id
      node.dataset.kind = offer.kind
      if (offer.product_id) node.dataset.product = offer.product_id
      if (offer.fulfilment) node.dataset.fulfilment = offer.fulfilment.kind
      node.append(template ? document.importNode(template.content, true) : usual())
      this.fill(item)
      node.addEventListener('click', (event) => this.clicked(item, event))
      node.addEventListener('auxclick', (event) => event.button === 1 && this.clicked(item, event))
      watched.set(node, item)
      return item
    }

    fill({ node, offer, decision }) {
      const plain = HTML_CHANNELS.includes(decision.channel) ? unescaped : String
      const values = { ...offer, ...offer.fulfilment, ...offer.treatment }, image = safe(values.image_url)
      const page = offer.product_id && this.getAttribute('product-url')?.replace('{product_id}', encodeURIComponent(offer.product_id))
      const url = safe(values.url) || safe(page)
      for (const name in offer.treatment) values[name] = plain(values[name])
      for (const part of node.querySelectorAll('[data-onestory]')) {
        const name = part.dataset.onestory, value = values[name]
        if (name === 'dismiss') {
          if (this.hasAttribute('no-dismiss')) part.remove()
          else part.setAttribute('aria-label', `${this.getAttribute('dismiss-label') || 'Not interested'}: ${values.title}`)
        } else if (name === 'url') {
          if (url) part.href = url
        } else if (name === 'image_url') {
          if (image) part.src = image
          else part.remove()
          if (!part.hasAttribute('alt')) part.alt = ''
        } else if (value == null || typeof value === 'object') part.remove()
        else part.textContent = value
      }
    }

    clicked(item, event) {
      const on = event.target.closest('a[href],button,[data-onestory=dismiss]')
      if (!on || !item.node.contains(on)) return
      if (on.dataset.onestory !== 'dismiss') return respond(item, 'clicked')
      respond(item, 'dismissed')
      const at = this.items.indexOf(item)
      this.items.splice(at, 1)
      this.forget(item)
      const next = this.items[Math.min(at, this.items.length - 1)]
      if (next) (next.node.querySelector('[data-onestory=dismiss]') || this.list).focus()
      else this.list.focus()
    }

    forget(item) {
      clearTimeout(item.timer)
      eyes.unobserve(item.node)
      watched.delete(item.node)
      item.node.remove()
    }
  }

  // ---- begin

  const queued = Array.isArray(window.onestory) ? window.onestory : []
  window.onestory = { ...api, push: ([name, ...rest]) => api[name]?.(...rest) }
  for (const call of queued) window.onestory.push(call)
  document.adoptedStyleSheets = [LOOKS, ...document.adoptedStyleSheets]
  customElements.define(NAME, Offers)
  addEventListener('pagehide', beacon)
  addEventListener('online', flush)
  addEventListener('pageshow', (event) => event.persisted && refresh()) // back from the past: offers may be others
  document.addEventListener('visibilitychange', () => {
    for (const item of watched.values()) look(item)
    if (document.visibilityState === 'hidden') beacon()
  })
  flush()
})()

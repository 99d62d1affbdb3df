/* Rostergate in the browser: one user's XMPP contact list as a live Map.
 *
 *   import { Rostergate } from '/rostergate.js';
 *   const gate = new Rostergate();
 *   gate.addEventListener('change', (e) => console.log(e.detail));
 *   await gate.signIn('juliet@example.com', 'secret');
 *   await gate.add('nurse@example.com', { name: 'Nurse', groups: ['Servants'] });
 *
 * No dependency, one file, an ES module. It needs fetch with readable streams.
 *
 * DESIGN. The roster changes in one place only: applyEvent(), fed by GET /v1/events. A write's answer
 * carries the version that shows it; the methods that write resolve when the Map holds it, so
 * `await gate.add(...)` may be followed by `gate.roster.get(...)`.
 * The stream is read with fetch() and not with EventSource, because EventSource can send neither the
 * Authorization header nor tell a 401 from a cut. The token stays in this object (no storage that a
 * script could read later); with `cookie: true` it stays in an HttpOnly cookie and not even here.
 *
 * Events (all CustomEvent, data in `detail`):
 *   change     {op: 'set'|'remove', jid, item|null, previous|null, version}; one for each real change, also
 *              when a snapshot replaced the list
 *   reset      {version}: a snapshot replaced the list; its changes were reported just before
 *   sync       {version, resumed}: the Map is complete and live from here
 *   state      {state, connection, reason}: `state` is the XMPP side ("live", "resuming", ...),
 *              `connection` is ours ("closed", "connecting", "open", "waiting")
 *   subscription, subscriptions, presence, presence.reset, ping: the event's data as received
 *   renewed    {expires_at}
 *   expiring   {expires_at}: the password was given too long ago; only a new signIn goes on beyond that
 *   signed-out {reason}: the sign-in is over; the Map is kept until the next signIn
 *   problem    {error, retryInMs}: the stream failed and will be tried again
 */

const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 30000;
/* The gateway sends a comment every 12 s +- 20 %; three of them missing means a dead path. */
const SILENCE_MS = 45000;
const VISIBLE_MS = 5000; /* a write's version reaches the stream at once; else the roster is read */
const RENEW_RETRY_MS = 30000;
const MAX_TIMER_MS = 0x7fffffff;

/** A problem answered by the gateway (RFC 9457), or a request that got no answer (code "network"). */
export class RostergateError extends Error {
  constructor({ code, status = 0, title = '', detail = '', instance = '', xmpp = null, retryAfter = null, cause }) {
    super(detail || title || code, { cause });
    Object.assign(this, { name: 'RostergateError', code, status, title, detail, instance, xmpp, retryAfter });
  }
}

/** Cuts a text/event-stream into events (WHATWG HTML, 9.2.6). Feed it decoded text in any pieces. */
export class EventStreamParser {
  constructor({ onEvent, onRetry = () => {}, lastEventId = '' }) {
    this.onEvent = onEvent;
    this.onRetry = onRetry;
    this.lastEventId = lastEventId;
    this.rest = '';
    this.afterCr = false;
    this.startEvent();
  }

  startEvent() {
    this.type = '';
    this.data = [];
    this.id = this.lastEventId;
  }

  feed(text) {
    /* A CR ends its line at once; an LF that follows, maybe in the next piece, belongs to it. */
    let piece = text;
    if (this.afterCr && piece.startsWith('\n')) piece = piece.slice(1);
    if (text !== '') this.afterCr = text.endsWith('\r');
    const lines = (this.rest + piece).split(/\r\n|\n|\r/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === '') {
      this.dispatch();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; /* a comment */
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'event') this.type = value;
    else if (field === 'data') this.data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.id = value;
    else if (field === 'retry' && /^[0-9]+$/.test(value)) this.onRetry(Number(value));
  }

  dispatch() {
    const { type, data, id } = this;
    /* An id counts only with the blank line behind it: a cut event is asked for again. */
    this.lastEventId = id;
    this.startEvent();
    if (data.length > 0) this.onEvent({ type: type || 'message', data: data.join('\n'), id });
  }
}

/** The version's prefix and number; versions are ordered only within one prefix. */
function splitVersion(version) {
  const dash = version.lastIndexOf('-');
  return { prefix: version.slice(0, dash), seq: Number(version.slice(dash + 1)) };
}

function samePrefix(a, b) { return splitVersion(a).prefix === splitVersion(b).prefix; }

/** True if a Map at version `held` is known to contain what `wanted` names. */
export function versionReached(held, wanted) {
  if (!held || !wanted) return false;
  if (held === wanted) return true;
  return samePrefix(held, wanted) && splitVersion(held).seq >= splitVersion(wanted).seq;
}

function sameItem(a, b) {
  return a !== undefined && b !== undefined && a.name === b.name && a.subscription === b.subscription &&
    a.ask === b.ask && a.approved === b.approved && a.groups.length === b.groups.length &&
    a.groups.every((group, i) => group === b.groups[i]);
}

function freezeItem(item) {
  Object.freeze(item.groups);
  return Object.freeze(item);
}

function retryAfterMs(response) {
  const seconds = Number(response.headers.get('Retry-After'));
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : null;
}

async function errorFromResponse(response) {
  let problem = {};
  if ((response.headers.get('Content-Type') || '').includes('json')) {
    problem = await response.json().catch(() => ({}));
  }
  return new RostergateError({
    code: problem.code || `http-${response.status}`,
    status: response.status,
    title: problem.title || response.statusText,
    detail: problem.detail || '',
    instance: problem.instance || response.headers.get('X-Request-Id') || '',
    xmpp: problem.xmpp || null,
    retryAfter: retryAfterMs(response),
  });
}

/** One sign-in of one user. Make another object for another user. */
export class Rostergate extends EventTarget {
  #base;
  #cookie;
  #fetch;
  #token = null;
  #jid = null;
  #expiresAt = 0;
  #renewTimer = null;
  #roster = new Map();
  #version = null;
  #lastEventId = '';
  #state = 'signed-out';
  #connection = 'closed';
  #run = null; /* identity of the running loop; null: no stream is wanted */
  #stream = null; /* AbortController of the connection */
  #synced = false; /* `sync` was seen on this connection */
  #wake = null; /* ends the pause before the next attempt */
  #retryMs = FIRST_RETRY_MS;
  #failures = 0;
  #waiters = new Set();
  #onOnline = () => this.#hurry();

  /** base: where the gateway is, "" for the page's own origin. cookie: keep the token in an HttpOnly cookie, so
   * that the sign-in survives a reload. fetch: another one, for tests. */
  constructor({ base = '', cookie = false, fetch: ownFetch = globalThis.fetch.bind(globalThis) } = {}) {
    super();
    this.#base = base.replace(/\/$/, '');
    this.#cookie = cookie;
    this.#fetch = ownFetch;
  }

  /** The contact list: bare JID -> frozen item. Live; do not change it. */
  get roster() { return this.#roster; }
  get version() { return this.#version; }
  get jid() { return this.#jid; }
  /** The XMPP side: "signed-out", "connecting", "live", "resuming" or "offline". */
  get state() { return this.#state; }
  /** Our stream: "closed", "connecting", "open" or "waiting". */
  get connection() { return this.#connection; }
  get signedIn() { return this.#state !== 'signed-out'; }
  get expiresAt() { return new Date(this.#expiresAt); }

  /** Signs in and opens the stream. Resolves when the list is in the Map. */
  async signIn(jid, password, { presence = 'none', stream = true } = {}) {
    if (this.signedIn) await this.signOut();
    const body = { jid, password, presence };
    if (this.#cookie) body.cookie = true;
    const session = await this.#call('POST', '/v1/session', { body, anonymous: true });
    this.#roster.clear();
    this.#version = null;
    this.#lastEventId = '';
    this.#begin(session);
    if (stream) await this.open();
    return this;
  }

  /** With `cookie: true`: takes up the sign-in of an earlier page. False if there is none. */
  async resume({ stream = true } = {}) {
    let session;
    try {
      session = await this.session();
    } catch (error) {
      if (error.status === 401) return false;
      throw error;
    }
    this.#begin(session);
    if (stream) await this.open();
    return true;
  }

  /** What the gateway knows of this sign-in (GET /v1/session). */
  session() { return this.#call('GET', '/v1/session'); }

  /** A new token of the same sign-in. Done by itself well before the old one ends. */
  async renew() {
    const session = await this.#call('POST', '/v1/session/renew', { body: {} });
    this.#takeToken(session);
    this.#emit('renewed', { expires_at: session.expires_at });
    return session;
  }

  /** Ends this sign-in, or with `all` every one of the user. The object can sign in again. If the gateway
   * cannot be reached this rejects, but the token is forgotten here all the same. */
  async signOut({ all = false } = {}) {
    if (!this.signedIn) return;
    this.close();
    try {
      await this.#call('DELETE', all ? '/v1/session?all=1' : '/v1/session');
    } catch (error) {
      if (error.status !== 401) throw error; /* 401: it was over already */
    } finally {
      this.#end('signed-out');
    }
  }

  /* ---- writes: each states a wanted end, so repeating one is safe ---- */

  /** Adds a contact; RostergateError "version-mismatch" if it is there already. */
  add(jid, { name = null, groups = [] } = {}) {
    return this.#write('PUT', jid, { body: { name, groups }, headers: { 'If-None-Match': '*' } });
  }

  /** Adds a contact, or replaces name and groups of one that is there. */
  put(jid, { name = null, groups = [] } = {}) {
    return this.#write('PUT', jid, { body: { name, groups } });
  }

  /** Changes only the members named: {name} or {groups} or both; null clears. */
  update(jid, changes) {
    return this.#write('PATCH', jid, { body: changes, type: 'application/merge-patch+json' });
  }

  rename(jid, name) { return this.update(jid, { name: name === '' ? null : name }); }
  regroup(jid, groups) { return this.update(jid, { groups }); }
  async remove(jid) { await this.#write('DELETE', jid); }

  /** Resolves when the Map holds `version` or later. */
  async visible(version) {
    if (!version || versionReached(this.#version, version)) return;
    if (this.#run !== null) await this.#waitForVersion(version);
    if (!versionReached(this.#version, version)) await this.refresh();
  }

  /** Reads the whole list once, without a stream or behind its back. */
  async refresh({ fromServer = false } = {}) {
    const headers = fromServer ? { 'Cache-Control': 'no-cache' } : {};
    const body = await this.#call('GET', '/v1/roster', { headers });
    /* The stream may have got ahead of this answer; then what it brought is newer. */
    if (versionReached(this.#version, body.version)) return this.#roster;
    const continues = this.#version === null || samePrefix(this.#version, body.version);
    this.#replace(body.items, body.version);
    this.#lastEventId = body.version;
    /* Versions of two prefixes have no order: only a resume proves which of the two is newer. */
    if (!continues) this.#stream?.abort();
    return this.#roster;
  }

  /* ---- the stream ---- */

  /** Opens the stream and keeps it open. Resolves at the first `sync`, rejects when it is closed. */
  open() {
    if (!this.signedIn) return Promise.reject(new RostergateError({ code: 'signed-out' }));
    if (this.#run === null) {
      this.#run = Symbol('run');
      this.#failures = 0;
      globalThis.addEventListener?.('online', this.#onOnline);
      this.#keepStreaming(this.#run);
    }
    return this.#synced ? Promise.resolve() : this.#firstSync();
  }

  #firstSync() {
    return new Promise((resolve, reject) => {
      const done = (event) => {
        if (event.type === 'state' && event.detail.connection !== 'closed') return;
        for (const type of ['sync', 'state']) this.removeEventListener(type, done);
        if (event.type === 'sync') resolve();
        else reject(new RostergateError({ code: event.detail.reason }));
      };
      for (const type of ['sync', 'state']) this.addEventListener(type, done);
    });
  }

  /** Closes the stream; the sign-in and the Map stay. */
  close() { this.#close('closed'); }

  #close(reason) {
    this.#run = null;
    this.#synced = false;
    globalThis.removeEventListener?.('online', this.#onOnline);
    this.#stream?.abort();
    this.#wake?.();
    this.#setState({ connection: 'closed', reason });
  }

  async #keepStreaming(run) {
    while (this.#run === run) {
      this.#setState({ connection: 'connecting', reason: 'connecting' });
      const outcome = await this.#streamOnce();
      if (this.#run !== run) return;
      this.#synced = false;
      if (outcome.over) {
        this.#end(outcome.reason);
        return;
      }
      const pause = this.#pauseMs(outcome);
      this.#setState({ connection: 'waiting', reason: outcome.reason });
      if (outcome.error) this.#emit('problem', { error: outcome.error, retryInMs: pause });
      await this.#sleep(pause);
    }
  }

  /* A planned end (rotate, drain, slow) is followed at once, spread over a second so that a thousand
   * pages do not return together; failures double with full jitter from the server's `retry:`. */
  #pauseMs({ planned, retryAfter }) {
    if (planned) return Math.random() * 1000;
    const ceiling = Math.min(MAX_RETRY_MS, this.#retryMs * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    const pause = ceiling / 4 + Math.random() * ceiling * 0.75;
    return Math.max(pause, retryAfter ?? 0);
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).finally(() => { this.#wake = null; });
  }

  #hurry() {
    this.#failures = 0;
    this.#wake?.();
  }

  /* One connection. Never throws: {over, reason} or {planned, reason, error, retryAfter}. */
  async #streamOnce() {
    const controller = new AbortController();
    this.#stream = controller;
    let silence;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => controller.abort(), SILENCE_MS);
    };
    try {
      alive();
      const headers = { Accept: 'text/event-stream', ...this.#authorization() };
      if (this.#lastEventId) headers['Last-Event-ID'] = this.#lastEventId;
      const response = await this.#fetch(`${this.#base}/v1/events`, {
        headers, signal: controller.signal, cache: 'no-store', credentials: this.#credentials(),
      });
      if (!response.ok) return this.#refused(await errorFromResponse(response));
      this.#setState({ connection: 'open', reason: 'open' });
      return await this.#readStream(response.body.getReader(), controller.signal, alive);
    } catch (cause) {
      const error = new RostergateError({ code: 'network', detail: 'The stream was cut.', cause });
      return { over: false, reason: 'network', error };
    } finally {
      clearTimeout(silence);
      controller.abort();
      if (this.#stream === controller) this.#stream = null;
    }
  }

  #refused(error) {
    if (error.status === 401) return { over: true, reason: error.code };
    if (error.status === 410) this.#lastEventId = '';
    return { over: false, reason: error.code, error, retryAfter: error.retryAfter };
  }

  async #readStream(reader, signal, alive) {
    let bye = null;
    const parser = new EventStreamParser({
      lastEventId: this.#lastEventId,
      onRetry: (ms) => { this.#retryMs = Math.max(ms, 100); },
      onEvent: (event) => {
        if (signal.aborted) return; /* a listener closed the stream in the middle of a piece */
        const data = JSON.parse(event.data);
        if (event.type === 'bye') bye = data;
        else this.#applyEvent(event.type, data);
        this.#lastEventId = event.id;
      },
    });
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      alive();
      parser.feed(decoder.decode(value, { stream: true }));
      if (bye !== null) break;
    }
    return this.#goodbye(bye);
  }

  #goodbye(bye) {
    if (bye === null) {
      return { over: false, reason: 'network',
               error: new RostergateError({ code: 'network', detail: 'The stream ended without a word.' }) };
    }
    /* `expired` ends the token that opened the stream; if a renewed one is held, nothing is lost. */
    const renewed = bye.reason === 'expired' && Date.now() < this.#expiresAt;
    if (bye.reconnect || renewed) return { over: false, planned: true, reason: bye.reason };
    return { over: true, reason: bye.reason };
  }

  #applyEvent(type, data) {
    switch (type) {
      case 'roster':
        this.#replace(data.items, data.version);
        break;
      /* refresh() may have got ahead of the stream: what it brought already is not taken back. */
      case 'roster.set':
        if (!versionReached(this.#version, data.version)) this.#set(freezeItem(data.item), data.version);
        break;
      case 'roster.remove':
        if (!versionReached(this.#version, data.version)) this.#delete(data.jid, data.version);
        break;
      case 'sync':
        this.#failures = 0;
        this.#synced = true;
        this.#advance(data.version);
        this.#setState({ state: data.state, connection: 'open', reason: 'sync' });
        this.#emit('sync', { version: data.version, resumed: data.resumed });
        break;
      case 'session':
        this.#setState({ state: data.state, reason: data.reason });
        break;
      default:
        this.#emit(type, data);
    }
  }

  /* ---- the Map ---- */

  #set(item, version) {
    const previous = this.#roster.get(item.jid);
    this.#roster.set(item.jid, item);
    if (!sameItem(previous, item)) {
      this.#emit('change', { op: 'set', jid: item.jid, item, previous: previous ?? null, version });
    }
    this.#advance(version);
  }

  #delete(jid, version) {
    const previous = this.#roster.get(jid);
    if (this.#roster.delete(jid)) this.#emit('change', { op: 'remove', jid, item: null, previous, version });
    this.#advance(version);
  }

  #replace(items, version) {
    const kept = new Set(items.map((item) => item.jid));
    for (const jid of [...this.#roster.keys()]) {
      if (!kept.has(jid)) this.#delete(jid, null);
    }
    for (const item of items) this.#set(freezeItem(item), null);
    this.#advance(version);
    this.#emit('reset', { version });
  }

  /* null: a change in the middle of a snapshot, or an account that has no roster yet. */
  #advance(version) {
    if (!version) return;
    this.#version = version;
    for (const check of [...this.#waiters]) check();
  }

  #waitForVersion(version) {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        this.#waiters.delete(check);
        resolve();
      };
      const check = () => {
        if (versionReached(this.#version, version)) finish();
      };
      const timer = setTimeout(finish, VISIBLE_MS);
      this.#waiters.add(check);
    });
  }

  /* ---- requests ---- */

  async #write(method, jid, options = {}) {
    let version;
    const answer = await this.#call(method, `/v1/roster/items/${encodeURIComponent(jid)}`, {
      ...options, seen: (response) => { version = response.headers.get('Rostergate-Version'); },
    });
    await this.visible(answer?.version ?? version);
    return answer?.item ?? null;
  }

  #authorization() { return this.#token === null ? {} : { Authorization: `Bearer ${this.#token}` }; }
  #credentials() { return this.#cookie ? 'include' : 'omit'; }

  async #call(method, path, { body, type = 'application/json', headers = {}, anonymous = false,
                              seen = () => {} } = {}) {
    const init = { method, credentials: this.#credentials(), cache: 'no-store',
                   headers: { Accept: 'application/json', ...headers } };
    if (!anonymous) Object.assign(init.headers, this.#authorization());
    if (body !== undefined) {
      init.headers['Content-Type'] = type;
      init.body = JSON.stringify(body);
    }
    let response;
    try {
      response = await this.#fetch(this.#base + path, init);
    } catch (cause) {
      throw new RostergateError({ code: 'network', detail: 'The gateway cannot be reached.', cause });
    }
    if (!response.ok) {
      const error = await errorFromResponse(response);
      /* sign-in-again refuses the renewal only: the token is good to its own end. */
      const over = response.status === 401 && error.code !== 'sign-in-again';
      if (over && !anonymous && this.signedIn) this.#end(error.code);
      throw error;
    }
    seen(response);
    return response.status === 204 || response.status === 202 ? null : response.json();
  }

  /* ---- the sign-in ---- */

  #begin(session) {
    this.#jid = session.jid;
    this.#takeToken(session);
    this.#setState({ state: session.state, reason: 'signed-in' });
  }

  #takeToken(session) {
    if (!this.#cookie && session.token) this.#token = session.token;
    this.#expiresAt = Date.parse(session.expires_at);
    this.#planRenewal((this.#expiresAt - Date.now()) * (0.75 + Math.random() * 0.1));
  }

  #planRenewal(inMs) {
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renewQuietly(), Math.min(Math.max(inMs, 1000), MAX_TIMER_MS));
  }

  async #renewQuietly() {
    try {
      await this.renew();
    } catch (error) {
      if (error.code === 'sign-in-again') {
        this.#emit('expiring', { expires_at: this.expiresAt.toISOString() });
      } else if (this.signedIn && Date.now() < this.#expiresAt) {
        this.#planRenewal(RENEW_RETRY_MS);
      }
    }
  }

  #end(reason) {
    if (!this.signedIn) return;
    this.#close(reason);
    clearTimeout(this.#renewTimer);
    this.#token = null;
    this.#expiresAt = 0;
    this.#setState({ state: 'signed-out', reason });
    this.#emit('signed-out', { reason });
  }

  #setState({ state = this.#state, connection = this.#connection, reason }) {
    if (state === this.#state && connection === this.#connection) return;
    this.#state = state;
    this.#connection = connection;
    this.#emit('state', { state, connection, reason });
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}

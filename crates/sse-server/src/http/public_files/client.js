// The client of sse-server for pages: one ES module without dependencies.
//
//   const { subscribe } = await import('https://hub.example.org/client.js');
//   const subscription = subscribe({
//     channels: ['orders'],
//     onEvent: ({ channel, id, event, data, time }) => { … },
//     onGap: ({ channel, reason }) => { … },          // events may be missing: load the state again
//   });
//
// All tabs of a browser with the same base URL and `shareKey` share one connection. One tab leads: it
// holds a Web Lock, reads the stream, and sends each block to the others over a BroadcastChannel. A
// block states the position before and after it. A tab accepts a block only if it continues the tab's
// own position. A tab that sees a hole reports its position, and the leader starts again from the
// lowest position that it knows. So each tab gets each event once, whichever tab leads, and whatever
// messages are lost or repeated.

export const VERSION = '0.1.0';

const BEAT_MS = 2000;
const SILENT_LEADER_MS = 10_000;
const SILENT_STREAM_MS = 45_000;
const REPORT_WAIT_MS = 300;
const BACKOFF_MAX_MS = 30_000;

// --- Positions ----------------------------------------------------------------------------------

const POSITION = /^(@?)(\d{1,20})-(\d{1,20})$/;

/** Compares two positions of one channel. `@5-0`, at an event, is before `5-0`, which is after it. */
export function comparePositions(one, other) {
  const [a, b] = [one, other].map((text) => POSITION.exec(text));
  if (!a || !b) return 0;
  for (const part of [2, 3]) {
    // A number can have 19 digits, which is more than a Number holds.
    const [left, right] = [BigInt(a[part]), BigInt(b[part])];
    if (left !== right) return left < right ? -1 : 1;
  }
  return Number(b[1] === '@') - Number(a[1] === '@');
}

/** Parses an id of the stream; an id of one channel does not name the channel. */
function parseId(id, channels) {
  if (channels.length === 1) return POSITION.test(id) ? { [channels[0]]: id } : {};
  const pairs = id.split(',').map((pair) => pair.split('='));
  return Object.fromEntries(pairs.filter(([channel, position]) => channels.includes(channel) && POSITION.test(position)));
}

const formatId = (positions, channels) => channels.length === 1 ? positions[channels[0]]
  : channels.filter((channel) => positions[channel]).map((channel) => `${channel}=${positions[channel]}`).join(',');

/**
 * Escapes a value for the name of a channel as the server does for `{sub}` and `{claim}`: each byte
 * except A-Z, a-z, 0-9, `_` and `-` becomes `~XX`.
 */
export const escapeChannelPart = (value) => Array.from(new TextEncoder().encode(String(value)), (byte) => {
  const character = String.fromCharCode(byte);
  return /[A-Za-z0-9_-]/.test(character) ? character : `~${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}).join('');

// --- The stream ---------------------------------------------------------------------------------

/** A response after which a retry does not help. */
export class RejectedError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = 'RejectedError';
    this.status = status;
    this.code = code;
  }
}

/** Yields the blocks of a stream, and `null` for each part that has arrived. */
async function* blocksOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [text, block] = ['', {}];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield null;
      text += value;
      for (;;) {
        const end = /\r\n|\n|\r(?=[^])/.exec(text);
        if (!end) break;
        const line = text.slice(0, end.index);
        text = text.slice(end.index + end[0].length);
        if (line === '') {
          yield block;
          block = {};
          continue;
        }
        const [, field, content] = /^([^:]*):? ?([^]*)$/.exec(line);
        if (field === 'data') block.data = block.data === undefined ? content : `${block.data}\n${content}`;
        else if (['event', 'id', 'retry'].includes(field)) block[field] = content;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const sleep = (ms, signal) => new Promise((resolve) => {
  if (signal?.aborted) { resolve(); return; }
  const end = () => { clearTimeout(timer); resolve(); };
  const timer = setTimeout(end, ms);
  signal?.addEventListener('abort', end, { once: true });
  // A browser that is online again need not wait.
  globalThis.addEventListener?.('online', end, { once: true });
});

// --- A tab --------------------------------------------------------------------------------------

let hasLoggedNoLocks = false;
const randomId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join('');

class Subscription {
  /** The position in each channel after the last event that the page got. */
  positions = {};
  #options;
  #base;
  #channels;
  #types;
  #tab = randomId();
  #closed = new AbortController();
  #bus = null;
  #token;
  /** The leader that this tab follows. */
  #session = { started: 0, id: '' };
  #heard = performance.now();
  #reported = -Infinity;
  /** What this tab does as the leader; `null` if it follows. */
  #lead = null;
  #ended = new Set();
  #state = '';

  constructor(options) {
    this.#options = options;
    this.#base = new URL(options.url ?? '.', options.url ? globalThis.location?.href : import.meta.url);
    this.#channels = [...new Set(options.channels ?? ['sse'])].sort();
    this.#types = options.events ? [...new Set(options.events)].sort() : null;
    this.#token = typeof options.token === 'string' ? options.token : '';
    for (const channel of this.#channels) {
      const position = options.positions?.[channel];
      if (position) this.positions[channel] = position;
    }
    this.#run().catch((error) => this.#fail(error));
  }

  /** Ends the subscription of this tab. */
  close() {
    if (this.#closed.signal.aborted) return;
    this.#send({ kind: 'bye' });
    this.#closed.abort();
    this.#bus?.close();
    this.#setState('closed');
  }

  #setState(state, error) {
    if (state === this.#state) return;
    this.#state = state;
    this.#options.onState?.(state, error);
  }

  get isLeader() { return this.#lead !== null; }

  #fail(error) {
    if (this.#closed.signal.aborted) return;
    this.close();
    this.#options.onError?.(error);
  }

  async #run() {
    const { locks } = globalThis.navigator ?? {};
    const shares = this.#options.share !== false;
    if (!shares || !locks || !globalThis.BroadcastChannel) {
      if (shares && !hasLoggedNoLocks) {
        hasLoggedNoLocks = true;
        console.info('sse-server: this page has no Web Locks, because it is not a secure context; each tab has its own stream');
      }
      await this.#findPositions();
      return this.#leadTabs(null);
    }
    this.#bus = new BroadcastChannel(this.#name('bus'));
    this.#bus.onmessage = ({ data }) => this.#receive(data);
    // Alive for as long as the page: the leader sees by this lock which tabs are gone.
    locks.request(this.#name(`tab ${this.#tab}`), { signal: this.#closed.signal }, () => this.#untilClosed()).catch(() => {});
    await this.#findPositions();
    this.#report();
    this.#watchLeader(locks);
    return this.#stand(locks, {});
  }

  #name(what) { return `sse-server ${this.#base.href} ${this.#options.shareKey ?? ''} ${what}`; }

  #untilClosed() { return new Promise((resolve) => { this.#closed.signal.addEventListener('abort', resolve, { once: true }); }); }

  /** Waits to lead, leads, and stands again if another tab has deposed this one. */
  async #stand(locks, options) {
    while (!this.#closed.signal.aborted) {
      const held = new AbortController();
      const request = options.steal ? options : { signal: this.#closed.signal };
      options = {};
      try {
        await locks.request(this.#name('leader'), request, () => this.#leadTabs(locks, held.signal));
      } catch (error) {
        if (error.name !== 'AbortError') throw error;
        this.#lead?.abort.abort();
        this.#lead = null;
      } finally {
        held.abort();
      }
    }
  }

  /** Deposes a leader that is silent, unless this tab itself was frozen meanwhile. */
  #watchLeader(locks) {
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      if (now - last > 2 * BEAT_MS) this.#heard = now;
      last = now;
      if (this.#lead || now - this.#heard < SILENT_LEADER_MS) return;
      this.#heard = now;
      this.#stand(locks, { steal: true }).catch((error) => this.#fail(error));
    }, BEAT_MS);
    this.#closed.signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  // --- Requests ---------------------------------------------------------------------------------

  #path(channels, types, rest) {
    const url = new URL('stream', this.#base);
    for (const channel of channels) url.searchParams.append('channel', channel);
    for (const type of types ?? []) url.searchParams.append('event', type);
    url.searchParams.set('envelope', 'json');
    url.searchParams.set('notices', '1');
    for (const [name, value] of Object.entries(rest)) if (value) url.searchParams.set(name, value);
    return url;
  }

  async #open(url, signal) {
    for (let attempt = 0; ; attempt += 1) {
      const used = this.#token || (this.#token = await this.#newToken(''));
      const headers = used ? { Authorization: `Bearer ${used}` } : {};
      const response = await fetch(url, { headers, signal, cache: 'no-store', credentials: this.#options.credentials ?? 'same-origin' });
      if (response.status === 401 && attempt === 0 && typeof this.#options.token === 'function') {
        this.#token = await this.#newToken(used);
        continue;
      }
      if (response.ok) return response;
      const { error = {} } = await response.json().catch(() => ({}));
      const failure = new RejectedError(response.status, error.code ?? '', error.message ?? response.statusText);
      if (response.status >= 500 || response.status === 429) throw new Error(failure.message);
      throw failure;
    }
  }

  /** Asks the page for a token. Tabs that find the same token rejected ask once. */
  async #newToken(rejected) {
    if (typeof this.#options.token !== 'function') return this.#token;
    const ask = async () => {
      // Another tab may have got one while this tab waited.
      if (this.#token !== rejected) return this.#token;
      const token = await this.#options.token({ rejected: rejected !== '' });
      this.#send({ kind: 'token', token });
      return token;
    };
    const { locks } = globalThis.navigator ?? {};
    return this.#bus && locks ? locks.request(this.#name('token'), async () => {
      // Messages that were sent before the lock was released arrive first.
      await new Promise((resolve) => { setTimeout(resolve, 20); });
      return ask();
    }) : ask();
  }

  /** Finds where each channel starts, by the first position that a stream of this tab reports. */
  async #findPositions() {
    const missing = this.#channels.filter((channel) => !this.positions[channel]);
    const { last, since, from } = this.#options;
    for (let attempt = 1; missing.length && !this.#closed.signal.aborted; attempt += 1) {
      const abort = new AbortController();
      const signal = AbortSignal.any([abort.signal, this.#closed.signal]);
      try {
        const response = await this.#open(this.#path(missing, this.#types, { last, since, from }), signal);
        if (response.status === 204) return this.#end(missing);
        for await (const block of blocksOf(response.body)) {
          const found = block?.id === undefined ? {} : parseId(block.id, missing);
          if (missing.every((channel) => found[channel])) return Object.assign(this.positions, found);
        }
      } catch (error) {
        if (this.#closed.signal.aborted) return undefined;
        if (error instanceof RejectedError) throw error;
        this.#setState('waiting', error);
      } finally {
        abort.abort();
      }
      await sleep(this.#delay(attempt, 1000), this.#closed.signal);
    }
    return undefined;
  }

  #delay(attempt, retry) { return Math.min(BACKOFF_MAX_MS, retry * 2 ** Math.min(attempt - 1, 5)) * (0.5 + Math.random() / 2); }

  // --- Messages between tabs --------------------------------------------------------------------

  #send(message) {
    if (!this.#bus || this.#closed.signal.aborted) return;
    this.#bus.postMessage({ ...message, tab: this.#tab });
  }

  #report() {
    this.#reported = performance.now();
    this.#send({ kind: 'report', channels: this.#channels, types: this.#types, positions: this.positions });
  }

  #receive(message) {
    const { kind, tab, session } = message;
    if (kind === 'token') { this.#token = message.token; return; }
    if (session) {
      // Of two leaders the newer one counts.
      const age = session.started - this.#session.started || (session.id < this.#session.id ? -1 : 1);
      if (session.id !== this.#session.id && age < 0) return;
      if (this.#lead && session.id !== this.#lead.session.id) this.#lead.abort.abort();
      this.#session = session;
      this.#heard = performance.now();
    }
    if (kind === 'ask') this.#report();
    else if (kind === 'block') this.#take(message);
    else if (kind === 'state') this.#setState(message.state);
    else if (kind === 'end') this.#end(message.channels);
    else if (kind === 'failed') this.#fail(new RejectedError(message.status, message.code, message.text));
    else if (this.#lead && kind === 'report') this.#lead.reported(tab, message);
    else if (this.#lead && kind === 'bye') this.#lead.tabs.delete(tab);
  }

  /** Takes a block of the leader's stream, if it continues the position of this tab. */
  #take({ before, after, event }) {
    for (const channel of this.#channels) {
      const [own, from, to] = [this.positions[channel], before[channel], after[channel]];
      if (!own || !from || !to) {
        // The leader does not read this channel yet, or starts it for another tab.
        if (own && !(channel in after)) this.#askAgain();
        continue;
      }
      if (comparePositions(from, own) > 0) { this.#askAgain(); continue; }
      if (from !== own && comparePositions(to, own) <= 0) continue;
      this.positions[channel] = to;
      if (event?.channel === channel) this.#dispatch(event);
    }
    if (event && !event.channel) this.#dispatch(event);
  }

  #askAgain() { if (performance.now() - this.#reported > 1000) this.#report(); }

  #dispatch(event) {
    const { onEvent, onGap, onEnd, onNotice } = this.#options;
    try {
      if (event.type === 'gap') onGap?.(event);
      else if (event.type === 'notice') onNotice?.(event.data);
      else if (event.type === 'end') { this.#ended.add(event.channel); onEnd?.(event); }
      else if (!this.#types || this.#types.includes(event.event)) onEvent?.(event);
    } catch (error) {
      // An error of the page must not end its stream.
      setTimeout(() => { throw error; });
    }
  }

  #end(channels) {
    for (const channel of channels.filter((name) => this.#channels.includes(name) && !this.#ended.has(name))) {
      this.#dispatch({ type: 'end', channel });
    }
    if (this.#channels.every((channel) => this.#ended.has(channel))) this.close();
  }

  // --- Leading ----------------------------------------------------------------------------------

  /** Reads the stream for all tabs, until this tab is closed or deposed. */
  async #leadTabs(locks, held) {
    const abort = new AbortController();
    const signals = [abort.signal, this.#closed.signal, ...held ? [held] : []];
    const lead = {
      abort,
      tabs: new Map(),
      session: { started: Date.now(), id: randomId() },
      restart: new AbortController(),
      /** Where the stream is, per channel. */
      at: {},
      reported: (tab, { channels, types, positions }) => {
        lead.tabs.set(tab, { channels, types, positions });
        if (this.#state) this.#send({ kind: 'state', state: this.#state, session: lead.session });
        const isMissing = (channel) => positions[channel]
          && (!lead.at[channel] || comparePositions(positions[channel], lead.at[channel]) < 0);
        const wantsMore = lead.types && (!types || types.some((type) => !lead.types.includes(type)));
        if (channels.some(isMissing) || wantsMore) lead.restart.abort();
      },
    };
    lead.signal = AbortSignal.any(signals);
    this.#lead = lead;
    this.#session = lead.session;
    const beat = setInterval(() => this.#send({ kind: 'beat', session: lead.session }), BEAT_MS);
    this.#send({ kind: 'ask', session: lead.session });
    if (this.#bus) await sleep(REPORT_WAIT_MS, lead.signal);
    try {
      for (let attempt = 0; !lead.signal.aborted;) {
        attempt = await this.#leadOnce(lead, locks, attempt);
      }
    } finally {
      clearInterval(beat);
      if (this.#lead === lead) this.#lead = null;
    }
  }

  /** Opens one stream and reads it to its end. Returns the number of failures in a row. */
  async #leadOnce(lead, locks, attempt) {
    await this.#forgetClosedTabs(lead, locks);
    const tabs = [...lead.tabs.values(), { channels: this.#channels, types: this.#types, positions: this.positions }];
    const channels = [...new Set(tabs.flatMap((tab) => tab.channels))].filter((channel) => tabs.some(({ positions }) => positions[channel])).sort();
    lead.types = tabs.some(({ types }) => !types) ? null : [...new Set(tabs.flatMap(({ types }) => types))].sort();
    lead.at = Object.fromEntries(channels.map((channel) => {
      const positions = tabs.map(({ positions }) => positions[channel]).filter(Boolean);
      return [channel, positions.reduce((lowest, position) => comparePositions(position, lowest) < 0 ? position : lowest)];
    }));
    lead.restart = new AbortController();
    lead.retry ??= 3000;
    const watchdog = new AbortController();
    const signal = AbortSignal.any([lead.signal, lead.restart.signal, watchdog.signal]);
    let timer;
    const isAlive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => watchdog.abort(), SILENT_STREAM_MS);
    };
    try {
      isAlive();
      const response = await this.#open(this.#path(channels, lead.types, { last_event_id: formatId(lead.at, channels) }), signal);
      if (response.status === 204) {
        this.#tell({ kind: 'end', channels, session: lead.session });
        return 0;
      }
      this.#tell({ kind: 'state', state: 'open', session: lead.session });
      for await (const block of blocksOf(response.body)) {
        isAlive();
        if (block) { attempt = 0; this.#forward(lead, channels, block); }
      }
    } catch (error) {
      if (lead.signal.aborted) return 0;
      if (lead.restart.signal.aborted) return attempt;
      if (error instanceof RejectedError) {
        this.#tell({ kind: 'failed', status: error.status, code: error.code, text: error.message, session: lead.session });
        return 0;
      }
    } finally {
      clearTimeout(timer);
    }
    if (lead.signal.aborted || lead.restart.signal.aborted) return attempt;
    this.#tell({ kind: 'state', state: 'waiting', session: lead.session });
    const until = AbortSignal.any([lead.signal, lead.restart.signal]);
    await sleep(this.#delay(attempt + 1, lead.retry), until);
    return attempt + 1;
  }

  async #forgetClosedTabs(lead, locks) {
    if (!locks || !lead.tabs.size) return;
    const { held } = await locks.query();
    const names = new Set(held.map(({ name }) => name));
    for (const tab of lead.tabs.keys()) if (!names.has(this.#name(`tab ${tab}`))) lead.tabs.delete(tab);
  }

  #tell(message) {
    this.#send(message);
    this.#receive(message);
  }

  /** Sends a block to all tabs. */
  #forward(lead, channels, block) {
    if (block.retry !== undefined && /^\d+$/.test(block.retry)) lead.retry = Number(block.retry);
    const before = { ...lead.at };
    if (block.id !== undefined) Object.assign(lead.at, parseId(block.id, channels));
    const after = { ...lead.at };
    const event = block.data === undefined ? undefined : readEvent(block, channels, before, after);
    if (block.id === undefined && !event) return;
    if (event?.type === 'notice' && event.data.kind === 'expires') this.#refresh();
    this.#tell({ kind: 'block', session: lead.session, before, after, event });
  }

  /** Gets a new token before the old one expires; the next connection uses it. */
  #refresh() {
    if (typeof this.#options.token !== 'function') return;
    this.#newToken(this.#token).then((token) => { this.#token = token; }, () => {});
  }
}

/** Reads the event of a block. */
function readEvent({ event: type, data }, channels, before, after) {
  if (type === 'notice') return { type, data: JSON.parse(data) };
  const value = JSON.parse(data);
  if (type === 'gap' || type === 'end') {
    const moved = channels.find((channel) => before[channel] !== after[channel]);
    return { ...value, type, channel: value.channel ?? moved ?? channels[0] };
  }
  return { ...value, type: 'event' };
}

/** Subscribes to channels; see `client.d.ts`. */
export const subscribe = (options) => new Subscription(options);

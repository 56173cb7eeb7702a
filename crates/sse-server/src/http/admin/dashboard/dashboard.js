// The dashboard of sse-server.
//
// Everything that the server sends is untrusted text: events, types, channels, callers, claims and
// reasons reach the page only as text nodes and as values of form fields, and characters that could
// hide or reorder text are shown escaped. Links lead only to screens of this page. The credential is
// kept in a variable, and is sent only to the server of this page.

const SAMPLE_MS = 5000;
const CHART_SAMPLES = 180;
const INCIDENTS_KEPT = 1000;
const STREAM_EVENTS_KEPT = 200;
const TAIL_KEPT = 500;
const TAIL_PER_SECOND = 50;
const TAIL_WAITING = 500;

// --- Text ---------------------------------------------------------------------------------------

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udfff]/g;

const codeOf = (text) => `\\u{${text.codePointAt(0).toString(16)}}`;

/** Returns the text with hidden characters escaped. Tabs and line feeds remain. */
const visible = (text) => String(text).replace(HIDDEN, codeOf);

/** The same for a text of one line. */
const oneLine = (text) => visible(text).replace(/[\t\n]/g, codeOf);

/** Returns a word of sh whose value is the text. */
const shellWord = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

/** Returns an expression of JavaScript whose value is the text, in ASCII. */
const scriptString = (text) => JSON.stringify(String(text))
  .replace(/[<>&\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Creates an element. Attributes that are functions are listeners; children are text or nodes. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null && child !== false)
    .map((child) => child instanceof Node ? child : document.createTextNode(visible(child))));
  return element;
}

const byId = (id) => document.getElementById(id);
/** A number that may be none, or hostile text. */
const count = (value) => value == null ? '–' : Number.isFinite(value) ? number(value) : '?';

const number = (value) => Number(value).toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 });

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${number(value)} ${units[unit]}`;
}

function duration(ms) {
  const s = Math.floor(ms / 1000);
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([size]) => s >= size);
  if (first < 0) return `${Math.round(ms)} ms`;
  const [[big, name], small] = [parts[first], parts[first + 1]];
  const rest = small && Math.floor((s % big) / small[0]);
  return `${Math.floor(s / big)} ${name}${rest ? ` ${rest} ${small[1]}` : ''}`;
}

const latency = (us) => us == null ? '–' : us < 1000 ? `${us} µs` : `${number(us / 1000)} ms`;

function time(ms) {
  const date = new Date(Number(ms));
  return Number.isNaN(date.getTime()) ? '?' : date.toLocaleString('sv').replace(',', '.');
}

/** The time in an id `<ms>-<seq>`. */
const timeOfId = (id) => time(/^@?(\d+)-\d+$/.exec(id)?.[1]);

// --- Requests -----------------------------------------------------------------------------------

let credential = '';

/** An error that the server explained. */
class Rejected extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const urlOf = (path) => new URL(path, document.baseURI);

const query = (pairs) => new URLSearchParams(pairs.filter(([, value]) => value !== '' && value != null)).toString();

/** Sends a request; the response is a 2xx. */
async function send(path, { method = 'GET', body, type, accept, signal, as = credential } = {}) {
  const headers = new Headers();
  if (as) headers.set('Authorization', `Bearer ${as}`);
  if (type) headers.set('Content-Type', type);
  if (accept) headers.set('Accept', accept);
  const response = await fetch(urlOf(path), {
    method, body, headers, signal,
    cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer',
  });
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const { code = 'error', message = response.statusText } = answer.error ?? {};
  throw new Rejected(response.status, String(code), String(message));
}

const getJson = async (path) => (await send(path, { accept: 'application/json' })).json();

const sendJson = async (path, value, options = {}) => (await send(path, {
  method: 'POST', type: 'application/json', body: JSON.stringify(value), ...options,
})).json();

/** Yields the blocks of `text/event-stream` (WHATWG HTML §9.2.6), also those without data. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [text, block] = ['', {}];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (;;) {
      const end = /\r\n|\n|\r(?=[^])/.exec(text);
      if (!end) break;
      const line = text.slice(0, end.index);
      text = text.slice(end.index + end[0].length);
      if (line === '') {
        yield { type: block.event || 'message', data: block.data, id: block.id };
        block = {};
        continue;
      }
      const [, field, content] = /^([^:]*):? ?([^]*)$/.exec(line);
      if (field === 'data') block.data = block.data == null ? content : `${block.data}\n${content}`;
      else if (field === 'event' || (field === 'id' && !content.includes('\0'))) block[field] = content;
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
});

/** Opens a stream again and again, with a growing random delay, until the signal or a rejection. */
async function follow(path, { signal, onOpen, onEvent, onBroken }) {
  for (let attempt = 0; !signal.aborted;) {
    try {
      const response = await send(path(), { accept: 'text/event-stream', signal });
      onOpen?.();
      for await (const event of eventsOf(response)) {
        attempt = 0;
        onEvent(event);
      }
      onBroken?.(new Error('the server ended the stream'));
    } catch (error) {
      if (signal.aborted) return;
      onBroken?.(error);
      if (error instanceof Rejected && error.status < 500 && error.status !== 429) throw error;
    }
    attempt += 1;
    await pause(Math.min(30_000, 1000 * 2 ** Math.min(attempt - 1, 5)) * (0.5 + Math.random() / 2), signal);
  }
}

// --- The feed -----------------------------------------------------------------------------------

const feed = {
  stats: null,
  /** Rows of the last 15 minutes, and how much of each budget was used then. */
  rows: [],
  budgets: [],
  incidents: [],
  streams: [],
  /** Recent stats, for rates. */
  recent: [],
};

function keep(list, items, max) {
  list.push(...items);
  if (list.length > max) list.splice(0, list.length - max);
}

const sum = (counts) => Object.values(counts ?? {}).reduce((all, count) => all + count, 0);

function takeStats(stats) {
  feed.stats = stats;
  keep(feed.recent, [stats], 6);
  const last = feed.rows.at(-1);
  if (last && stats.time_ms - last[0] < SAMPLE_MS) return;
  const { p50, p99 } = stats.delivery_us;
  keep(feed.rows, [[stats.time_ms, stats.streams, stats.behind_tail, stats.published_total,
    stats.deliveries_total, sum(stats.gaps_total), sum(stats.rejected_total), p50, p99]], CHART_SAMPLES);
  const parts = stats.budgets.map(({ used, max }) => max ? Math.round(used * 1000 / max) : 0);
  keep(feed.budgets, [parts], CHART_SAMPLES);
}

const feedEvents = {
  history({ rows, budgets }) { Object.assign(feed, { rows, budgets, incidents: [], recent: [] }); },
  incidents(incidents) { keep(feed.incidents, incidents, INCIDENTS_KEPT); },
  streams(streams) { keep(feed.streams, streams, STREAM_EVENTS_KEPT); },
  stats: takeStats,
};

let feedAbort = new AbortController();

async function runFeed() {
  feedAbort.abort();
  const { signal } = feedAbort = new AbortController();
  try {
    await follow(() => 'admin/events', {
      signal,
      onOpen: () => showConnection('Live', false),
      onEvent({ type, data }) {
        if (data == null || !Object.hasOwn(feedEvents, type)) return;
        feedEvents[type](JSON.parse(data));
        if (type === 'stats') showFeed();
      },
      onBroken: (error) => showConnection(`Not connected: ${error.message}`, true),
    });
  } catch (error) {
    if (error.status === 401 || error.status === 403) askForCredential(error);
  }
}

function showConnection(text, isBad) {
  byId('connection').textContent = oneLine(text);
  byId('connection').classList.toggle('bad', isBad);
}

function showFeed() {
  const problems = feed.stats.problems;
  const section = byId('problems');
  const shown = JSON.stringify(problems);
  // A live region that is written again would be read again.
  if (section.dataset.shown !== shown) {
    section.dataset.shown = shown;
    section.hidden = problems.length === 0;
    section.replaceChildren(el('ul', {}, ...problems.map((problem) => el('li', {}, problem))));
  }
  screen.update?.();
}

function askForCredential(error) {
  credential = '';
  const field = el('input', { type: 'password', autocomplete: 'off', required: true, size: 40 });
  const enter = (event) => {
    event.preventDefault();
    credential = field.value.trim();
    field.value = '';
    showScreen();
    runFeed();
  };
  closeScreen();
  byId('screen').replaceChildren(
    el('h2', {}, 'Credential'),
    el('p', {}, 'This server has access rules. Enter an API key or a token with the right "observe", or "admin" for actions. It stays in the memory of this page, and a reload forgets it.'),
    error && el('p', { class: 'bad', role: 'alert' }, `The server answered: ${error.message}`),
    el('form', { submit: enter }, el('label', {}, 'API key or token', field), el('button', { class: 'main' }, 'Continue')),
  );
  field.focus();
}

// --- Parts of screens ---------------------------------------------------------------------------

const svg = (name, attributes) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

/** A line over the last 15 minutes. A missing value interrupts it. */
function chart() {
  const line = svg('path', { d: '' });
  const image = svg('svg', { class: 'chart', viewBox: '0 0 180 44', preserveAspectRatio: 'none', role: 'img' });
  image.append(line);
  return {
    image,
    draw(values, format) {
      const known = values.filter((value) => value != null);
      const most = Math.max(...known, 0);
      const start = CHART_SAMPLES - values.length;
      let isDown = false;
      line.setAttribute('d', values.map((value, index) => {
        const command = value == null ? '' : `${isDown ? 'L' : 'M'}${start + index} ${(42 - 40 * value / (most || 1)).toFixed(1)}`;
        isDown = value != null;
        return command;
      }).join(''));
      image.setAttribute('aria-label', known.length
        ? `last 15 minutes: from ${format(Math.min(...known))} to ${format(most)}` : 'no values yet');
    },
  };
}

function card(title, format = number) {
  const [figure, note, line] = [el('p', { class: 'figure' }, '–'), el('p', { class: 'note' }), chart()];
  const element = el('section', { class: 'card' }, el('h3', {}, title), figure, note, line.image);
  return {
    element,
    update(value, values, notes = '') {
      figure.textContent = oneLine(value);
      note.textContent = oneLine(notes);
      line.draw(values, format);
    },
  };
}

const table = (caption, headings, rows) => el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
  el('table', {}, el('thead', {}, el('tr', {}, ...headings.map((heading) => el('th', { scope: 'col' }, heading)))), rows));

const row = (...cells) => el('tr', {}, ...cells.map((cell) => el('td', {}, cell)));

const emptyRow = (columns, text) => el('tr', {}, el('td', { colspan: columns, class: 'note' }, text));

const fieldOf = (label, field, options = {}) => el('label', options, label, field);

/** Shows the result of an action, or why it failed. */
async function report(output, action) {
  output.classList.remove('bad');
  output.textContent = 'Working…';
  try {
    output.textContent = visible(await action());
  } catch (error) {
    output.classList.add('bad');
    output.textContent = visible(error instanceof Rejected ? `${error.code}: ${error.message}` : error.message);
  }
}

function confirmed(title, text, verb) {
  const dialog = byId('dialog');
  return new Promise((resolve) => {
    let answer = false;
    const close = (value) => () => { answer = value; dialog.close(); };
    dialog.replaceChildren(
      el('h2', { id: 'dialog-title' }, title), el('p', {}, text),
      el('div', { class: 'bar' },
        el('button', { type: 'button', autofocus: true, click: close(false) }, 'Cancel'),
        el('button', { type: 'button', class: 'danger', click: close(true) }, verb)),
    );
    dialog.addEventListener('close', () => resolve(answer), { once: true });
    dialog.showModal();
  });
}

/** A button that copies a text which is also shown. */
function copyable(title, text) {
  const code = el('pre', { tabindex: 0, 'aria-label': title }, oneLineOrMore(text));
  const button = el('button', {
    type: 'button',
    async click() {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = 'Selected: copy it with the keyboard';
      }
    },
  }, `Copy ${title}`);
  code.dataset.text = text;
  return el('div', {}, code, button);
}

const oneLineOrMore = (text) => visible(text);

// --- Overview -----------------------------------------------------------------------------------

const column = (index) => feed.rows.map((values) => values[index]);

/** Differences per second of a column that counts since the start. A restart gives no value. */
const rates = (index) => feed.rows.map((values, at) => {
  const before = feed.rows[at - 1];
  const change = before && values[index] - before[index];
  return before && change >= 0 ? change * 1000 / Math.max(values[0] - before[0], 1) : null;
});

function rateNow(key) {
  const [first, last] = [feed.recent[0], feed.recent.at(-1)];
  const ms = last.time_ms - first.time_ms;
  return ms > 0 ? Math.max(last[key] - first[key], 0) * 1000 / ms : 0;
}

const countsText = (counts) => Object.entries(counts).filter(([, count]) => count > 0)
  .sort(([, a], [, b]) => b - a).slice(0, 5).map(([reason, count]) => `${reason} ${number(count)}`).join(', ') || 'none';

function overview(root) {
  const cards = {
    streams: card('Open streams'), published: card('Publishes per second'), deliveries: card('Deliveries per second'),
    delay: card('Publish to socket, p50 and p99', latency), behind: card('Streams behind the tail'),
    gaps: card('Gaps since the start'), rejected: card('Rejections since the start'),
  };
  const server = el('p', { class: 'note' });
  const health = el('p', { class: 'figure' });
  const budgets = el('div', { class: 'cards' });
  root.append(
    el('div', { class: 'cards' },
      el('section', { class: 'card' }, el('h3', {}, 'Server'), health, server),
      ...Object.values(cards).map(({ element }) => element)),
    el('h2', {}, 'Budgets'), budgets);
  let meters = [];
  function makeMeters(stats) {
    meters = stats.budgets.map(({ name }) => {
      const [meter, note, line] = [el('meter', { min: 0, max: 1, high: 0.9, 'aria-label': name }), el('p', { class: 'note' }), chart()];
      budgets.append(el('section', { class: 'card' }, el('h3', {}, name), meter, note, line.image));
      return { meter, note, line };
    });
  }
  return {
    update() {
      const { stats } = feed;
      if (!stats) return;
      health.textContent = stats.ready ? 'Ready' : 'Not ready';
      health.classList.toggle('bad', !stats.ready);
      server.textContent = oneLine(`version ${stats.version}, broker ${stats.broker}, up ${duration(stats.time_ms - stats.started_ms)}, ${number(stats.channels)} channels, ${number(stats.log_events)} events in ${bytes(stats.log_bytes)}`);
      cards.streams.update(number(stats.streams), column(1));
      cards.behind.update(number(stats.behind_tail), column(2), `${number(stats.slow_streams)} more than 60 s`);
      cards.published.update(number(rateNow('published_total')), rates(3), `${number(stats.published_total)} since the start`);
      cards.deliveries.update(number(rateNow('deliveries_total')), rates(4), `${number(stats.deliveries_total)} since the start`);
      const { p50, p99 } = stats.delivery_us;
      cards.delay.update(`${latency(p50)} / ${latency(p99)}`, column(8), 'the line is p99');
      cards.gaps.update(number(sum(stats.gaps_total)), rates(5), countsText(stats.gaps_total));
      cards.rejected.update(number(sum(stats.rejected_total)), rates(6), countsText(stats.rejected_total));
      if (meters.length !== stats.budgets.length) makeMeters(stats);
      stats.budgets.forEach(({ name, used, max }, index) => {
        const format = /memory|tails|blocked|log/.test(name) ? bytes : number;
        const { meter, note, line } = meters[index];
        meter.value = max ? used / max : 0;
        note.textContent = max ? `${format(used)} of ${format(max)}` : `${format(used)}, no limit`;
        line.draw(feed.budgets.map((parts) => parts[index]), (part) => `${number(part / 10)} %`);
      });
    },
  };
}

// --- Channels -----------------------------------------------------------------------------------

const CHANNELS_PER_PAGE = 50;

/** Pages without a visible channel that are skipped at a time. */
const EMPTY_PAGES = 20;

function channelsScreen(root, wanted) {
  const prefix = el('input', { type: 'search', maxlength: 64, value: wanted, placeholder: 'all channels', spellcheck: 'false', autocomplete: 'off' });
  const [body, status, output] = [el('tbody'), el('p', { class: 'note', role: 'status' }), el('p', { class: 'note', role: 'status' })];
  const first = el('button', { type: 'button', click: () => load(null) }, 'First page');
  const next = el('button', { type: 'button', click: () => load(following) }, 'Next page');
  const [busiest, note] = [el('tbody'), el('p', { class: 'note' })];
  // The page shown, the one after it, and the number of the last request for one.
  let [shown, following, latest] = [null, null, 0];
  root.append(
    el('form', { submit: (event) => { event.preventDefault(); load(null); } },
      fieldOf('Name begins with', prefix), el('button', { class: 'main' }, 'Search'), first, next),
    status, output,
    table('Channels by name', ['Channel', 'State', 'Events', 'Data', 'Newest event', 'Streams', 'Expires', 'Actions'], body),
    el('h2', {}, 'Busiest'), note,
    table('Channels with the most publishes', ['Channel', 'Events per second', 'Data per second', 'Streams'], busiest));
  async function pageAfter(after) {
    let page;
    for (let attempt = 0; attempt < EMPTY_PAGES; attempt += 1) {
      page = await getJson(`channels?${query([['prefix', prefix.value.trim()], ['after', page?.next ?? after], ['limit', CHANNELS_PER_PAGE]])}`);
      if (page.channels.length || !page.more) break;
    }
    return page;
  }
  async function load(after) {
    const request = latest += 1;
    status.classList.remove('bad');
    try {
      const page = await pageAfter(after);
      if (request !== latest) return;
      [shown, following] = [after, page.next];
      body.replaceChildren(...page.channels.map(channelRow));
      if (!page.channels.length) body.append(emptyRow(8, page.more ? 'No channel on these pages that you may see.' : 'No channel.'));
      status.textContent = `${page.channels.length} ${page.channels.length === 1 ? 'channel' : 'channels'} on this page${page.more ? ', more follow' : ''}`;
    } catch (error) {
      if (request !== latest) return;
      following = null;
      body.replaceChildren();
      status.classList.add('bad');
      status.textContent = visible(error.message);
    }
    first.disabled = after == null;
    next.disabled = following == null;
  }
  async function change(title, text, verb, request) {
    if (!await confirmed(title, text, verb)) return;
    await report(output, request);
    load(shown);
  }
  const close = (name) => change(`Close ${name}?`,
    'Nothing more can be published to the channel. Its subscribers get the event "end", and its events stay readable until they expire.',
    'Close the channel', async () => `${name} is closed after ${(await sendJson(`channels/${encodeURIComponent(name)}/close`, { reason: 'closed' })).id}`);
  const remove = (name) => change(`Delete ${name}?`,
    'All events and keys of the channel are deleted. This cannot be undone. Its subscribers get the event "end".',
    'Delete the channel', async () => {
      await send(`channels/${encodeURIComponent(name)}`, { method: 'DELETE' });
      return `${name} is deleted`;
    });
  const channelRow = ({ channel, state, reason, events, bytes: size, newest, streams, expires }) => row(
    channelLink(channel), oneLine(reason == null ? state : `${state}: ${reason}`), count(events),
    size == null ? '–' : bytes(size), newest == null ? '–' : timeOfId(newest), count(streams), expires == null ? 'never' : oneLine(expires),
    el('span', { class: 'actions' },
      state === 'open' && el('button', { type: 'button', class: 'danger', 'aria-label': oneLine(`Close ${channel}`), click: () => close(channel) }, 'Close'),
      el('button', { type: 'button', class: 'danger', 'aria-label': oneLine(`Delete ${channel}`), click: () => remove(channel) }, 'Delete')));
  async function loadBusiest() {
    // A list that is replaced under the keyboard's focus would lose it.
    if (busiest.contains(document.activeElement)) return;
    try {
      const { channels } = await getJson('admin/channels/busiest');
      note.textContent = 'Published over HTTP through this node, averaged over about a minute; at most 200 channels.';
      busiest.replaceChildren(...channels.map(({ channel, events_per_s: events, bytes_per_s: size, streams }) =>
        row(channelLink(channel), count(events), bytes(size), count(streams))));
      if (!channels.length) busiest.append(emptyRow(4, 'Nothing was published in the last minutes.'));
    } catch (error) {
      note.textContent = visible(error.message);
    }
  }
  load(null);
  loadBusiest();
  const timer = setInterval(loadBusiest, 3000);
  return { close() { clearInterval(timer); latest += 1; } };
}

// --- One channel --------------------------------------------------------------------------------

const STARTS = { now: 'now', last: 'the last N events', since: 'a time', id: 'an event id', oldest: 'the oldest event' };

function startPairs(start, value) {
  switch (start) {
    case 'last': return [['last', value || '20']];
    case 'since': return [['since', new Date(value).toISOString()]];
    case 'id': return [['last_event_id', value]];
    case 'oldest': return [['from', 'oldest']];
    default: return [];
  }
}

function dataOf(text) {
  if (!/^\s*[[{]/.test(text)) return el('div', { class: 'data mono' }, text);
  try {
    const folded = JSON.stringify(JSON.parse(text), null, 2);
    const short = text.length > 100 ? `${text.slice(0, 100)}…` : text;
    return el('details', {}, el('summary', { class: 'mono' }, oneLine(short)), el('pre', {}, folded));
  } catch {
    return el('div', { class: 'data mono' }, text);
  }
}

const AUTHORIZATION = '-H "Authorization: Bearer $SSE_KEY"';
const authorization = () => credential ? `${AUTHORIZATION} ` : '';

function commandsOfStream(path) {
  const url = urlOf(path).href;
  const [note, init] = credential
    ? ['// KEY is the API key or token.\n', ', { headers: { Authorization: `Bearer ${KEY}` } }'] : ['', ''];
  const script = `${note}const response = await fetch(${scriptString(url)}${init});\n`
    + 'for await (const text of response.body.pipeThrough(new TextDecoderStream())) {\n  console.log(text);\n}';
  return [copyable('curl', `curl -N ${authorization()}${shellWord(url)}`), copyable('JavaScript', script)];
}

function commandsOfPublish(path, type, data) {
  const url = urlOf(path).href;
  const headers = `'Content-Type': ${scriptString(type)}` + (credential ? ', Authorization: `Bearer ${KEY}`' : '');
  const script = `${credential ? '// KEY is the API key or token.\n' : ''}const response = await fetch(${scriptString(url)}, {\n  method: 'POST',\n`
    + `  headers: { ${headers} },\n  body: ${scriptString(data)},\n});\nconsole.log(await response.json());`;
  // A leading @ would name a file, and no command line can contain a NUL.
  const curl = `curl ${authorization()}-H ${shellWord(`Content-Type: ${type}`)} --data-raw ${shellWord(data)} ${shellWord(url)}`;
  return [data.includes('\0') ? null : copyable('curl', curl), copyable('JavaScript', script)];
}

/** Shows at most some events per second, and counts the others. */
function tailList(replay) {
  const list = el('ol', { class: 'tail', tabindex: 0, 'aria-label': 'Events, newest first' });
  const status = el('p', { class: 'note', role: 'status' });
  const tail = { list, status, isPaused: false, waiting: [], shown: 0, omitted: 0, note: 'Closed', second: 0, count: 0 };
  const item = ({ type, data, id }) => {
    const meta = el('div', { class: 'head' }, el('span', { class: 'type' }, oneLine(type)), el('span', {}, timeOfId(id ?? '')),
      el('code', {}, oneLine(id ?? 'no id')),
      id && el('button', { type: 'button', click: () => replay(id) }, 'Replay from here'));
    return el('li', {}, meta, dataOf(data));
  };
  tail.showStatus = () => {
    status.textContent = oneLine(`${tail.note}. ${number(tail.shown)} shown, ${number(tail.omitted)} omitted`
      + (tail.isPaused ? `, ${number(tail.waiting.length)} waiting.` : '.'));
  };
  const show = (event) => {
    list.prepend(item(event));
    tail.shown += 1;
    while (list.childElementCount > TAIL_KEPT) list.lastElementChild.remove();
  };
  tail.add = (event) => {
    const second = Math.floor(performance.now() / 1000);
    if (second !== tail.second) Object.assign(tail, { second, count: 0 });
    tail.count += 1;
    if (tail.count > TAIL_PER_SECOND || tail.waiting.length >= TAIL_WAITING) tail.omitted += 1;
    else if (tail.isPaused) tail.waiting.push(event);
    else show(event);
  };
  tail.resume = () => tail.waiting.splice(0).forEach(show);
  tail.clear = () => { list.replaceChildren(); tail.waiting.length = 0; };
  return tail;
}

function channelScreen(root, name) {
  const channel = el('input', { required: true, maxlength: 64, value: name || 'sse', spellcheck: 'false' });
  const types = el('input', { placeholder: 'all types', spellcheck: 'false' });
  const start = el('select', {}, ...Object.entries(STARTS).map(([key, text]) => el('option', { value: key }, text)));
  start.value = 'last';
  const from = el('input', { value: '20', 'aria-label': 'N, time or id' });
  const commands = el('div', {});
  const pauseButton = el('button', { type: 'button', 'aria-pressed': 'false' }, 'Pause');
  const kind = el('input', { required: true, value: 'message', spellcheck: 'false' });
  const format = el('select', {}, el('option', { value: 'application/json' }, 'JSON'), el('option', { value: 'text/plain' }, 'text'));
  const data = el('textarea', { 'aria-label': 'Data' }, '{"hello":"world"}');
  const published = el('p', { class: 'note', role: 'status' });
  const publishCommands = el('div', {});
  let abort = new AbortController();
  const replay = (id) => { start.value = 'id'; showStart(); from.value = `@${id}`; open(); };
  const tail = tailList(replay);
  let lastId = '';
  const path = (isReconnect) => {
    const pairs = [['channel', channel.value], ...types.value.split(/[\s,]+/).filter(Boolean).map((type) => ['event', type])];
    const at = isReconnect && lastId ? [['last_event_id', lastId]] : startPairs(start.value, from.value);
    return `stream?${query([...pairs, ...at])}`;
  };
  const showStart = () => {
    from.type = start.value === 'since' ? 'datetime-local' : 'text';
    from.parentElement.hidden = start.value === 'now' || start.value === 'oldest';
    from.value = start.value === 'last' ? '20' : '';
  };
  start.addEventListener('change', showStart);
  pauseButton.addEventListener('click', () => {
    tail.isPaused = !tail.isPaused;
    pauseButton.setAttribute('aria-pressed', tail.isPaused);
    pauseButton.textContent = tail.isPaused ? 'Continue' : 'Pause';
    if (!tail.isPaused) tail.resume();
    tail.showStatus();
  });
  async function open() {
    abort.abort();
    const { signal } = abort = new AbortController();
    tail.clear();
    Object.assign(tail, { shown: 0, omitted: 0, note: 'Connecting' });
    lastId = '';
    try {
      commands.replaceChildren(...commandsOfStream(path(false)));
      await follow(() => path(true), {
        signal,
        onOpen: () => { tail.note = `Live on ${channel.value}`; },
        onEvent(event) {
          if (event.id != null) lastId = event.id;
          if (event.data != null) tail.add(event);
        },
        onBroken: (error) => { tail.note = `Not connected: ${error.message}`; },
      });
    } catch (error) {
      if (signal.aborted) return;
      tail.note = `Rejected: ${error.message}`;
    }
    tail.showStatus();
  }
  const publishPath = () => `event/${encodeURIComponent(kind.value)}?${query([['channel', channel.value]])}`;
  const publish = (event) => {
    event.preventDefault();
    publishCommands.replaceChildren(...commandsOfPublish(publishPath(), format.value, data.value).filter(Boolean));
    report(published, async () => {
      const response = await send(publishPath(), { method: 'POST', type: format.value, body: data.value });
      return `Published with id ${(await response.json()).id}`;
    });
  };
  root.append(
    el('form', { submit: (event) => { event.preventDefault(); open(); } },
      fieldOf('Channel', channel), fieldOf('Types', types), fieldOf('Start at', start), fieldOf('N, time or id', from),
      el('button', { class: 'main' }, 'Open'), pauseButton,
      el('button', { type: 'button', click: () => { abort.abort(); tail.note = 'Closed'; tail.showStatus(); } }, 'Close')),
    tail.status, tail.list,
    el('h2', {}, 'The same elsewhere'), commands,
    el('h2', {}, 'Publish'),
    el('form', { submit: publish }, fieldOf('Type', kind), fieldOf('Data is', format), fieldOf('Data', data, { class: 'wide' }),
      el('button', { class: 'main' }, 'Publish')),
    published, publishCommands);
  const timer = setInterval(tail.showStatus, 500);
  if (name) open();
  return { close() { abort.abort(); clearInterval(timer); } };
}

// --- Streams ------------------------------------------------------------------------------------

const principalText = (principal) => principal == null ? '–'
  : [principal.kind, principal.key, principal.sub, principal.iss, principal.by].filter(Boolean).join(' ');

function streamsScreen(root) {
  const [body, output, changes] = [el('tbody'), el('p', { class: 'note', role: 'status' }), el('tbody')];
  root.append(output,
    table('Open streams, slowest first', ['Channels', 'Lag', 'Caller', 'Address', 'Open since', 'Sent', 'Stream'], body),
    el('h2', {}, 'Opened and ended since this page is open'),
    table('Streams that opened and ended', ['Time', 'What', 'Reason', 'Caller', 'Channels'], changes));
  async function close(id) {
    if (!await confirmed('Close this stream?', `Stream ${id} ends. Its client reconnects and resumes, unless its credential is revoked.`, 'Close the stream')) return;
    await report(output, async () => `${(await (await send(`admin/streams/${encodeURIComponent(id)}`, { method: 'DELETE' })).json()).closed} stream closed`);
    load();
  }
  const streamRow = (stream) => row(
    channelList(stream.channels),
    stream.lag_ms ? duration(stream.lag_ms) : 'at the tail', oneLine(principalText(stream.principal)), stream.address ?? '–',
    stream.since ? time(Date.parse(stream.since)) : '–', stream.bytes == null ? '–' : bytes(stream.bytes),
    stream.id ? el('button', { type: 'button', class: 'danger', 'aria-label': `Close stream ${stream.id}`, click: () => close(stream.id) }, 'Close') : '–');
  let isLoading = false;
  async function load() {
    // A list that is replaced under the keyboard's focus would lose it.
    if (isLoading || body.contains(document.activeElement)) return;
    isLoading = true;
    try {
      const { total, streams } = await getJson('admin/streams?limit=100');
      output.textContent = `${number(total)} open, the ${number(streams.length)} slowest are listed`
        + (streams.some(({ id }) => id) || !streams.length ? '' : '. Without access rules a stream has no id, so it cannot be closed here');
      body.replaceChildren(...streams.map(streamRow));
      if (!streams.length) body.append(emptyRow(7, 'No stream is open.'));
    } catch (error) {
      output.textContent = visible(error.message);
    } finally {
      isLoading = false;
    }
  }
  load();
  const timer = setInterval(load, 3000);
  return {
    update() {
      const rows = feed.streams.slice(-50).reverse();
      changes.replaceChildren(...rows.map(({ kind, time_ms, reason, caller, detail }) =>
        row(time(time_ms), kind, reason, oneLine(caller ?? '–'), oneLine(detail ?? '–'))));
      if (!rows.length) changes.append(emptyRow(5, 'None yet.'));
    },
    close() { clearInterval(timer); },
  };
}

const channelList = (names) => el('span', {}, ...names.flatMap((name, index) => [index ? ', ' : null, channelLink(name)]));

const channelLink = (name) => el('a', { href: `#channel/${encodeURIComponent(name)}` }, oneLine(name));

// --- Trace --------------------------------------------------------------------------------------

const TRACE_KEPT = 500;
const TRACE_SUBJECTS = {
  channel: ['A channel', ['channel']], address: ['An address', ['address']], key: ['An API key', ['key']],
  subject: ['A subject of tokens', ['iss', 'sub']],
};

/** What an entry of a trace reports beside its channels and its caller. */
function entryText({ kind, method, path, status, result, message, events, bytes: size, duplicates, first_id: first, last_id: last, reason }) {
  switch (kind) {
    case 'request': return `${method} ${path}: ${status} ${result}${message ? `, ${message}` : ''}`;
    case 'published': return `${count(events)} ${events === 1 ? 'event' : 'events'}, ${bytes(size)}, ${first === last ? `id ${first}` : `ids ${first} to ${last}`}${duplicates ? `, ${count(duplicates)} known already` : ''}`;
    default: return reason;
  }
}

function traceScreen(root, name) {
  const what = el('select', {}, ...Object.entries(TRACE_SUBJECTS).map(([key, [text]]) => el('option', { value: key }, text)));
  const fields = el('div', { class: 'bar' });
  const minutes = el('select', {}, ...[1, 5, 10].map((value) => el('option', { value }, `${value} min`)));
  const [status, body, streams] = [el('p', { class: 'note', role: 'status' }, 'No trace is open.'), el('tbody'), el('tbody')];
  const stopButton = el('button', { type: 'button', disabled: true, click: () => stop('Stopped') }, 'Stop');
  let abort = new AbortController();
  let [shown, dropped, ends, note] = [0, 0, 0, ''];
  const showFields = () => fields.replaceChildren(...TRACE_SUBJECTS[what.value][1].map((field) =>
    fieldOf(field, el('input', { name: field, required: true, spellcheck: 'false', autocomplete: 'off', value: field === 'channel' ? name : null }))));
  const showStatus = () => {
    status.textContent = oneLine(`${note}. ${count(shown)} entries, ${count(dropped)} left out.`
      + (stopButton.disabled || !ends ? '' : ` Ends at ${time(ends)}.`));
  };
  function stop(text) {
    abort.abort();
    stopButton.disabled = true;
    note = text;
    showStatus();
  }
  const onEvent = {
    entry(entry) {
      shown += 1;
      body.prepend(row(time(entry.time_ms), oneLine(entry.kind).replace('_', ' '), channelList(entry.channels), oneLine(entry.caller ?? '–'), oneLine(entry.address ?? '–'), oneLine(entryText(entry))));
      while (body.childElementCount > TRACE_KEPT) body.lastElementChild.remove();
    },
    status(found) { ({ dropped, ends_ms: ends } = found); },
    streams({ total, streams: found }) {
      streams.replaceChildren(...found.map((stream) => row(channelList(stream.channels), stream.lag_ms ? duration(stream.lag_ms) : 'at the tail',
        oneLine(principalText(stream.principal)), oneLine(stream.address ?? '–'), stream.bytes == null ? '–' : bytes(stream.bytes))));
      if (!found.length) streams.append(emptyRow(5, 'No open stream.'));
      else if (total > found.length) streams.append(emptyRow(5, `${count(total - found.length)} more.`));
    },
    end() { note = 'The time is over'; },
  };
  async function start(event) {
    event.preventDefault();
    abort.abort();
    const { signal } = abort = new AbortController();
    body.replaceChildren();
    streams.replaceChildren();
    [shown, dropped, ends, note] = [0, 0, 0, 'Tracing'];
    stopButton.disabled = false;
    try {
      const named = [...fields.querySelectorAll('input')].map((field) => [field.name, field.value.trim()]);
      const response = await send(`admin/trace?${query([...named, ['for', `${minutes.value}m`]])}`, { accept: 'text/event-stream', signal });
      showStatus();
      for await (const { type, data } of eventsOf(response)) {
        if (data != null && Object.hasOwn(onEvent, type)) onEvent[type](JSON.parse(data));
        showStatus();
      }
      if (note === 'Tracing') note = 'The server ended the trace';
    } catch (error) {
      if (signal.aborted) return;
      note = `Not traced: ${error.message}`;
    }
    if (signal.aborted) return;
    stopButton.disabled = true;
    showStatus();
  }
  what.addEventListener('change', showFields);
  showFields();
  body.append(emptyRow(6, 'Nothing yet.'));
  root.append(
    el('p', { class: 'note' }, 'Shows requests, publishes, gaps and ends of streams on this node. It contains no data of events.'),
    el('form', { submit: start }, fieldOf('Trace', what), fields, fieldOf('For', minutes), el('button', { class: 'main' }, 'Start'), stopButton),
    status,
    table('Entries, newest first', ['Time', 'What', 'Channels', 'Caller', 'Address', 'Detail'], body),
    el('h2', {}, 'Open streams, slowest first'),
    table('Open streams of the trace', ['Channels', 'Lag', 'Caller', 'Address', 'Sent'], streams));
  return { close() { abort.abort(); } };
}

// --- Gaps and rejections ------------------------------------------------------------------------

function incidentsScreen(root) {
  const kind = el('select', {}, ...[['', 'all'], ['gap', 'gaps'], ['rejection', 'rejections']].map(([value, text]) => el('option', { value }, text)));
  const words = el('input', { type: 'search', placeholder: 'reason, caller or text' });
  const [body, status] = [el('tbody'), el('p', { class: 'note' })];
  root.append(
    el('div', { class: 'bar' }, fieldOf('Show', kind), fieldOf('Contains', words)), status,
    table('Gaps and rejections, newest first', ['Time', 'What', 'Reason', 'Caller', 'Detail'], body));
  let shown = '';
  const update = () => {
    const wanted = words.value.toLowerCase();
    const matches = (incident) => (!kind.value || incident.kind === kind.value)
      && (!wanted || `${incident.reason} ${incident.caller ?? ''} ${incident.detail ?? ''}`.toLowerCase().includes(wanted));
    const found = feed.incidents.filter(matches);
    const state = `${found.length} ${found.at(-1)?.time_ms} ${wanted} ${kind.value}`;
    status.textContent = `${number(found.length)} of the last ${number(feed.incidents.length)}. ${number(feed.stats?.dropped_total ?? 0)} came too fast and were left out.`;
    if (state === shown) return;
    shown = state;
    body.replaceChildren(...found.slice(-200).reverse().map(({ kind: what, time_ms, reason, caller, detail }) =>
      row(time(time_ms), what, oneLine(reason), oneLine(caller ?? '–'), oneLine(detail ?? '–'))));
    if (!found.length) body.append(emptyRow(5, 'None.'));
  };
  kind.addEventListener('change', update);
  words.addEventListener('input', update);
  return { update };
}

// --- Access -------------------------------------------------------------------------------------

/** Decodes a JWT without verifying it; returns `null` for another text. */
function decodedToken(token) {
  const parts = token.split('.');
  if (parts.length !== 3) return null;
  const part = (text) => JSON.parse(new TextDecoder().decode(
    Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))));
  try {
    return { header: part(parts[0]), claims: part(parts[1]) };
  } catch {
    return null;
  }
}

function accessScreen(root) {
  const token = el('textarea', { required: true, spellcheck: 'false', autocomplete: 'off', 'aria-label': 'Token or API key' });
  const [verdict, content] = [el('p', { role: 'status' }), el('div', {})];
  const check = (event) => {
    event.preventDefault();
    const text = token.value.trim();
    const decoded = decodedToken(text);
    content.replaceChildren(...decoded ? [el('h3', {}, 'Content, not verified by this page'), el('pre', {}, JSON.stringify(decoded, null, 2))] : []);
    report(verdict, async () => {
      const found = await sendJson('admin/access', { token: text });
      if (found.accepted) content.prepend(el('pre', {}, JSON.stringify(found, null, 2)));
      return found.accepted ? 'The credential is accepted. It grants:' : `The credential is rejected: ${found.reason} (${found.meaning})`;
    });
  };
  const forms = { key: ['key'], 'a token by its text': ['token'], 'all tokens of a subject': ['iss', 'sub'], 'a token by its id': ['iss', 'jti'] };
  const what = el('select', {}, ...Object.keys(forms).map((name) => el('option', {}, name)));
  const fields = el('div', { class: 'bar' });
  const showFields = () => fields.replaceChildren(...forms[what.value].map((name) => fieldOf(name, el('input', { name, required: true, autocomplete: 'off' }))));
  what.addEventListener('change', showFields);
  showFields();
  const revoked = el('p', { class: 'note', role: 'status' });
  const revoke = async (event) => {
    event.preventDefault();
    const named = Object.fromEntries([...fields.querySelectorAll('input')].map(({ name, value }) => [name, value]));
    if (!await confirmed('Revoke?', 'The credential becomes invalid on all nodes, and its streams end. This cannot be undone here.', 'Revoke')) return;
    report(revoked, async () => { await sendJson('admin/revocations', named); return 'Revoked'; });
  };
  const [patterns, ttl, subject] = [el('input', { required: true, placeholder: 'users.42' }), el('input', { value: '10m' }), el('input', {})];
  const ticket = el('p', { class: 'note mono', role: 'status' });
  const create = (event) => {
    event.preventDefault();
    const wanted = { subscribe: patterns.value.split(/[\s,]+/).filter(Boolean), ttl: ttl.value };
    if (subject.value) wanted.sub = subject.value;
    report(ticket, async () => { const made = await sendJson('tokens', wanted); return `${made.token}\nvalid until ${made.expires}`; });
  };
  root.append(
    el('h2', {}, 'What a credential grants'),
    el('form', { submit: check }, fieldOf('Token or API key', token, { class: 'wide' }), el('button', { class: 'main' }, 'Check')), verdict, content,
    el('h2', {}, 'Revoke'), el('form', { submit: revoke }, fieldOf('What', what), fields, el('button', { class: 'danger' }, 'Revoke')), revoked,
    el('h2', {}, 'Create a ticket'),
    el('form', { submit: create }, fieldOf('Channels', patterns), fieldOf('Valid for', ttl), fieldOf('Subject', subject), el('button', { class: 'main' }, 'Create')), ticket);
  return { close() { token.value = ''; } };
}

// --- Settings -----------------------------------------------------------------------------------

function settingsScreen(root) {
  const body = el('tbody');
  const words = el('input', { type: 'search', placeholder: 'name, value or origin' });
  const tables = el('div', {});
  const nodes = el('tbody');
  root.append(
    el('h2', {}, 'Nodes'), table('Nodes', ['Node', 'Host', 'Addresses', 'Version', 'Up', 'Streams', 'Behind the tail', 'Largest lag'], nodes),
    el('h2', {}, 'Settings of this node'), el('div', { class: 'bar' }, fieldOf('Contains', words)), table('Settings', ['Setting', 'Value', 'Origin'], body), tables);
  let settings = [];
  const update = () => {
    const matches = ({ key, value, origin }) => `${key} ${value} ${origin}`.toLowerCase().includes(words.value.toLowerCase());
    body.replaceChildren(...settings.filter(matches).map(({ key, value, origin }) => row(el('code', {}, oneLine(key)), el('code', {}, oneLine(value)), oneLine(origin))));
  };
  words.addEventListener('input', update);
  async function loadNodes() {
    try {
      const found = await getJson('admin/nodes');
      nodes.replaceChildren(...found.nodes.map((node) => row(
        el('code', {}, oneLine(node.id), node.is_self ? ' (this one)' : null), oneLine(node.host ?? '–'), oneLine(node.addresses.join(', ')),
        oneLine(node.version), duration(found.time_ms - node.started_ms), count(node.streams), count(node.behind_tail),
        node.lag_ms ? duration(node.lag_ms) : 'none')));
    } catch (error) {
      nodes.replaceChildren(emptyRow(8, error.message));
    }
  }
  loadNodes();
  const timer = setInterval(loadNodes, 5000);
  getJson('admin/settings').then((found) => {
    settings = found.settings;
    update();
    for (const text of [found.tls, found.access]) if (text) tables.append(el('pre', { tabindex: 0 }, text.trim()));
  }).catch((error) => tables.append(el('p', { class: 'bad' }, error.message)));
  return { close() { clearInterval(timer); } };
}

// --- Screens ------------------------------------------------------------------------------------

const SCREENS = {
  overview: ['Overview', overview],
  channels: ['Channels', channelsScreen],
  channel: ['Channel', channelScreen],
  streams: ['Streams', streamsScreen],
  trace: ['Trace', traceScreen],
  incidents: ['Gaps and rejections', incidentsScreen],
  access: ['Access', accessScreen],
  settings: ['Settings', settingsScreen],
};

let screen = {};

function closeScreen() {
  screen.close?.();
  screen = {};
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return ''; }
}

function showScreen() {
  const [id, argument = ''] = location.hash.slice(1).split('/');
  const name = Object.hasOwn(SCREENS, id) ? id : 'overview';
  const [title, open] = SCREENS[name];
  closeScreen();
  const root = byId('screen');
  root.replaceChildren(el('h2', {}, title));
  for (const link of byId('nav').children) {
    if (link.dataset.screen === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${title} – SSE hub`;
  screen = open(root, decoded(argument)) ?? {};
  screen.update?.();
}

byId('nav').append(...Object.entries(SCREENS).map(([id, [title]]) => el('a', { href: `#${id}`, 'data-screen': id }, title)));
addEventListener('hashchange', () => { showScreen(); byId('screen').focus(); });
showScreen();
runFeed();

// The live page: one stream of server-sent events, and what it fills.

import { Charts } from './charts.js';
import { Events } from './events.js';
import { disconnected, notice, troubled } from './notices.js';
import { byId, bytes, clock, count, duration, element, list, setText, short, table, title } from './show.js';

const MINUTE = 60;
const bad = (n) => ({ text: count(n), kind: n > 0 ? 'bad' : 'quiet' });
const sum = (numbers) => Object.values(numbers).reduce((a, b) => a + b, 0);
const rate = (n) => (n === null ? '–' : `${short(n)}/s`);

// The states of the last minute, oldest first.
let states = [];

// What `pick` counted in the last seconds, and those seconds.
function since(seconds, pick) {
  const now = states.at(-1);
  const then = states.find((state) => now.uptime_s - state.uptime_s <= seconds + 0.5) ?? now;
  return [pick(now) - pick(then), now.uptime_s - then.uptime_s];
}

function perSecond(pick) {
  const [n, seconds] = since(5, pick);
  return seconds > 0 ? n / seconds : null;
}

const listenerLoss = (l) => sum(l.dropped) + l.kernel_dropped;
const allLoss = (s) => Object.values(s.listeners).reduce((n, l) => n + listenerLoss(l), 0)
  + Object.values(s.destinations).reduce((n, d) => n + sum(d.dropped), 0);
const upstream = (s) => Object.values(s.listeners).reduce((n, l) => n + l.upstream_lost_estimate, 0);
const received = (s) => Object.values(s.listeners).reduce((n, l) => n + l.received, 0);

// The archive keeps events on disk until it writes the next file; anywhere else they are late.
const late = (name, d) => name !== 'archive' && d.spooled > 0;

function showTiles(stats) {
  const places = Object.values(stats.destinations);
  const spooled = places.reduce((n, d) => n + d.spooled, 0);
  const held = places.reduce((n, d) => n + d.in_flight, 0);
  const oldest = Math.max(0, ...places.map((d) => d.oldest_s));
  const alarm = Object.entries(stats.destinations).some(([name, d]) => (d.last_error || late(name, d)) && d.oldest_s > MINUTE);
  const lost = since(MINUTE, allLoss)[0];
  const latency = stats.latency.delivered ?? {};
  const [user, log] = ['user_events', 'log_events'].map((name) => perSecond((s) => s.listeners[name].received));
  const tiles = [
    ['Events', rate(perSecond(received)), `${rate(user)} user · ${rate(log)} log`],
    ['Lost in the last minute', count(lost), `${count(allLoss(stats))} since the start`, lost > 0],
    ['Lost upstream', count(upstream(stats)), 'before this machine, estimate'],
    ['Waiting', count(held + spooled), `${count(held)} in memory · ${count(spooled)} on disk`],
    ['Spool', bytes(places.reduce((n, d) => n + d.spool_bytes, 0)), oldest > 0 ? `oldest ${duration(oldest)}` : 'nothing waits', alarm],
    ['Latency', duration(latency.p50_s), latency.p99_s === null ? 'nothing delivered yet' : `99 % within ${duration(latency.p99_s)}, since the start`],
  ];
  list(byId('tiles'), tiles, () => {
    const tile = element('dl');
    tile.append(element('dt'), element('dd'), element('dd', '', 'note'));
    return tile;
  }, (tile, [name, value, note, alarm]) => {
    tile.className = alarm ? 'tile alarm' : 'tile';
    [name, value, note].forEach((text, at) => setText(tile.children[at], text));
  });
}

function showListeners(stats) {
  const rows = [];
  for (const [name, l] of Object.entries(stats.listeners)) {
    const of = (pick) => rate(perSecond((s) => pick(s.listeners[name])));
    rows.push([`${title(name)} ${l.address ?? '(not bound)'}`, of((x) => x.received), count(l.received), count(l.accepted), count(l.queued)]);
    for (const [source, n] of Object.entries(l.accepted_by_source)) {
      rows.push({ part: true, cells: [title(source), of((x) => x.accepted_by_source[source]), '', count(n), ''] });
    }
  }
  table(byId('listeners'), ['listener, source', 'rate', 'received', 'accepted', 'queued'], rows);
}

function showReasons(stats) {
  const rows = [];
  const add = (where, what, reason, pick, kind) => {
    const n = pick(stats);
    if (n <= 0) return;
    const [minute] = since(MINUTE, pick);
    const lost = kind === 'lost';
    rows.push([where, what, reason, lost ? bad(minute) : count(minute), lost ? bad(n) : count(n)]);
  };
  for (const [name, listener] of Object.entries(stats.listeners)) {
    const at = title(name);
    for (const reason of Object.keys(listener.dropped)) {
      add(at, 'dropped', title(reason), (s) => s.listeners[name].dropped[reason], 'lost');
    }
    add(at, 'dropped', 'by the kernel', (s) => s.listeners[name].kernel_dropped, 'lost');
    add(at, 'upstream', 'gaps in row numbers', (s) => s.listeners[name].upstream_lost_estimate, 'lost');
    for (const group of ['rejected', 'notes']) {
      for (const reason of Object.keys(listener[group])) {
        add(at, group === 'notes' ? 'noticed' : group, title(reason), (s) => s.listeners[name][group][reason]);
      }
    }
  }
  for (const [name, destination] of Object.entries(stats.destinations)) {
    for (const reason of Object.keys(destination.dropped)) {
      add(name, 'given up', title(reason), (s) => s.destinations[name]?.dropped[reason] ?? 0, 'lost');
    }
  }
  if (rows.length === 0) rows.push([{ text: 'nothing lost, nothing rejected', kind: 'good' }, '', '', '', '']);
  table(byId('reasons'), ['where', 'what', 'reason', 'last minute', 'since the start'], rows);
}

function showDestinations(stats) {
  const head = ['destination', 'state', 'rate', 'delivered', 'in memory', 'on disk', 'spool', 'oldest', 'given up', 'retries', 'last error'];
  const rows = Object.entries(stats.destinations).map(([name, d]) => {
    const state = d.last_error ? { text: 'failing', kind: 'bad' }
      : late(name, d) ? { text: 'catching up', kind: 'warn' }
        : d.delivered + d.spooled > 0 ? { text: 'works', kind: 'good' } : { text: 'not used yet', kind: 'quiet' };
    return [
      name, state, rate(perSecond((s) => s.destinations[name]?.delivered ?? 0)), count(d.delivered),
      count(d.in_flight), count(d.spooled), bytes(d.spool_bytes), d.oldest_s > 0 ? duration(d.oldest_s) : '–', bad(sum(d.dropped)),
      count(d.retries), { text: d.last_error ?? '–', kind: d.last_error ? 'text bad' : 'text quiet' },
    ];
  });
  if (rows.length === 0) rows.push([{ text: 'none is enabled: events are counted and not kept', kind: 'warn' }, ...Array(10).fill('')]);
  table(byId('places'), head, rows);
}

function showEngine(stats) {
  table(byId('latency'), ['received to', 'half within', '99 % within'], Object.entries(stats.latency).map(
    ([stage, l]) => [title(stage), duration(l.p50_s), duration(l.p99_s)],
  ));
  table(byId('threads'), ['thread', 'state', 'last beat'], Object.entries(stats.threads).map(([name, thread]) => [
    name, thread.alive ? { text: 'turns', kind: 'good' } : { text: 'stalled', kind: 'bad' }, `${duration(thread.beat_age_s)} ago`,
  ]));
}

function showSeries(stats) {
  const rows = Object.entries(stats.series).map(([measurement, { series, tags }]) => {
    const [tag, values] = Object.entries(tags)[0] ?? [];
    return [measurement, count(series), tag ? `${tag}: ${count(values)}` : '–'];
  });
  byId('series').hidden = rows.length === 0;
  table(byId('series'), ['measurement', 'series in InfluxDB', 'the tag with most values'], rows);
}

function showEmpty(stats) {
  const nothing = received(stats) === 0;
  document.body.dataset.traffic = nothing ? 'none' : 'some';
  byId('empty').hidden = !nothing;
  if (!nothing) return;
  const bound = Object.entries(stats.listeners).filter(([, l]) => l.address);
  list(byId('addresses'), bound.flatMap(([name, l]) => [['dt', title(name)], ['dd', `UDP ${l.address}`]]),
    ([tag]) => element(tag), (at, [, text]) => setText(at, text));
  byId('loopback').hidden = !bound.some(([, l]) => /^(127\.|\[::1\])/.test(l.address));
  const log = stats.listeners.log_events.address ?? bound[0]?.[1].address;
  if (log) setText(byId('try'), `ringside send --to ${log.replace('0.0.0.0', '127.0.0.1')} --rate 20 --for 30`);
}

function say(text, kind) {
  setText(byId('state'), text);
  byId('state').className = `pill ${kind}`;
  document.title = kind === 'good' ? 'Ringside' : `${text} – Ringside`;
}

function show(stats) {
  // Another process answers: what was counted before does not belong to it.
  if (states.length > 0 && stats.uptime_s < states.at(-1).uptime_s) states = [];
  const before = states.at(-1);
  states.push(stats);
  while (stats.uptime_s - states[0].uptime_s > MINUTE + 1) states.shift();
  document.body.dataset.connection = 'open';
  disconnected(null);
  notice(stats, before);
  if (!stats.healthy) say('not healthy', 'bad');
  else if (troubled()) say('losing or late', 'bad');
  else say('healthy', 'good');
  setText(byId('about'), `${stats.version} · ${stats.backend} · up ${duration(Math.floor(stats.uptime_s))}`);
  showEmpty(stats);
  showTiles(stats);
  showListeners(stats);
  showReasons(stats);
  showDestinations(stats);
  showSeries(stats);
  showEngine(stats);
}

let lastHeard = null;

function lost() {
  document.body.dataset.connection = 'lost';
  say('no connection', 'bad');
  disconnected(lastHeard === null ? 'never' : clock(lastHeard));
}

const charts = new Charts(byId('charts'));
const KINDS = ['proxy-session', 'proxy-connection', 'engine', 'proxy', 'repository', 'scheduler', 'qix-perf'];
const events = new Events(KINDS.map((kind) => `qseow-${kind}`), () => connect());

async function get(path) {
  const answer = await fetch(path);
  // Logged out, for instance by a restart.
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

// All places for streams are taken: ask instead.
async function poll() {
  try {
    const [stats, history, top, newest] = await Promise.all([
      get('api/stats'), get('api/history'), get('api/top'), get(`api/events?limit=100${events.query()}`),
    ]);
    lastHeard = Date.now();
    show(stats);
    charts.begin(history);
    events.top(top);
    events.begin();
    events.add(newest);
  } catch {
    lost();
  }
}

let stream = null;
let polling = null;

// Opens the stream, or another one for another filter.
function connect() {
  stream?.close();
  clearInterval(polling);
  polling = null;
  stream = new EventSource(`api/stream?more${events.query()}`);
  const on = (name, then) => stream.addEventListener(name, (event) => {
    lastHeard = Date.now();
    then(JSON.parse(event.data));
  });
  on('history', (history) => { events.begin(); charts.begin(history); });
  on('point', (point) => charts.add(point));
  on('top', (top) => events.top(top));
  on('events', (newest) => events.add(newest));
  on('message', show);
  stream.addEventListener('error', (event) => {
    if (event.target !== stream) return;
    lost();
    if (stream.readyState === EventSource.CLOSED && polling === null) polling = setInterval(poll, 2000);
  });
}

// Silence is a lost connection too: a cut network closes nothing.
setInterval(() => {
  if (lastHeard !== null && Date.now() - lastHeard > 5000 && !document.hidden) lost();
}, 1000);
document.addEventListener('visibilitychange', () => charts.draw());

const THEMES = ['system', 'light', 'dark'];
function theme(name) {
  document.documentElement.dataset.theme = name;
  setText(byId('theme'), `Theme: ${name}`);
  try { localStorage.setItem('ringside-theme', name); } catch { /* not allowed: for this visit only */ }
  charts.repaint();
}
const nextTheme = () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
byId('theme').addEventListener('click', nextTheme);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.repaint());
let kept = 'system';
try { kept = localStorage.getItem('ringside-theme') ?? kept; } catch { /* not allowed */ }
theme(THEMES.includes(kept) ? kept : 'system');

const PARTS = ['rates', 'losses', 'destinations', 'top', 'events', 'settings'];
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea')) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  const part = PARTS[Number(event.key) - 1];
  if (event.key === '/') { event.preventDefault(); byId('filter').text.focus(); }
  else if (event.key === 'p') events.pause(!events.paused);
  else if (event.key === 't') nextTheme();
  else if (part) byId(part).scrollIntoView();
});

fetch('api/config').then((answer) => answer.text()).then((text) => setText(byId('config'), text)).catch(() => {});
connect();

// What is wrong, and what to do about it. A notice stays for half a minute after its cause.

import { byId, count, duration, element, list, setText, title } from './show.js';

const STAY_MS = 30_000;

// What to do about events that were dropped before they were looked at.
const DROPPED = {
  source_denied: 'The sender is not among allowedSources.',
  size: 'Datagrams are longer than maxMessageSize.',
  rate_limit: 'More than rateLimit.maxMessagesPerMinute arrive.',
  queue_full: 'Events arrive faster than they are read. Raise ringside.receive.slots, or give Ringside more cores.',
  shutdown: 'Ringside was stopping.',
  crash: 'The run before this one ended without a clean stop.',
};

// The same for events that a destination will not get.
const UNDELIVERED = {
  refused: 'The destination refused them for good; its last error says why.',
  expired: 'They waited longer than ringside.spool.maxAge.',
  overflow: 'The destination is too slow and they found no place on disk.',
  spool_full: 'The spool is full. Raise ringside.spool.maxBytes, or repair the destination.',
  shutdown: 'Ringside was stopping.',
  crash: 'The run before this one ended without a clean stop.',
};

const active = new Map();

// Finds what has gone wrong between two states.
function* causes(now, before) {
  for (const [name, listener] of Object.entries(now.listeners)) {
    const then = before.listeners[name];
    for (const [reason, n] of Object.entries(listener.dropped)) {
      const more = n - then.dropped[reason];
      if (more > 0) yield ['bad', `drop:${name}:${reason}`, more, `dropped on ${title(name)}: ${title(reason)}.`, DROPPED[reason]];
    }
    const kernel = listener.kernel_dropped - then.kernel_dropped;
    if (kernel > 0) {
      yield ['bad', `kernel:${name}`, kernel, `dropped by the kernel on ${title(name)}.`,
        'Its socket buffer was full. Raise net.core.rmem_max and ringside.receive.socketBuffer.'];
    }
    const upstream = listener.upstream_lost_estimate - then.upstream_lost_estimate;
    if (upstream > 0) {
      yield ['warn', `upstream:${name}`, upstream, `lost before they reached ${title(name)} (estimate).`,
        kernel > 0 || listener.dropped.rate_limit > then.dropped.rate_limit ? 'What was dropped here is among them.'
          : 'Look at the network between here and Sense, and at the Sense servers.'];
    }
    if (listener.backpressure) {
      yield ['warn', `pressure:${name}`, 0, `The queue of ${title(name)} is filling up.`, `${count(listener.queued)} wait.`];
    }
  }
  for (const [name, destination] of Object.entries(now.destinations)) {
    const then = before.destinations[name];
    for (const [reason, n] of Object.entries(destination.dropped)) {
      const more = n - (then?.dropped[reason] ?? 0);
      if (more > 0) yield ['bad', `lost:${name}:${reason}`, more, `will not reach ${name}: ${title(reason)}.`, UNDELIVERED[reason]];
    }
    if (destination.last_error) {
      const kept = destination.spooled > 0 ? `${count(destination.spooled)} events are kept on disk` : 'Events wait in memory';
      yield ['bad', `failing:${name}`, 0, `${name} does not take events.`,
        `${destination.last_error}. ${kept}; the oldest is ${duration(destination.oldest_s)} old.`];
    }
  }
  for (const [name, thread] of Object.entries(now.threads)) {
    if (!thread.alive) yield ['bad', `thread:${name}`, 0, `Thread ${name} is stalled.`, 'Restart Ringside, and keep its log.'];
  }
}

function render() {
  const shown = [...active.values()].sort((a, b) => a.rank - b.rank);
  list(byId('notices'), shown, () => {
    const item = element('li');
    item.append(element('strong'), element('span'));
    return item;
  }, (item, { rank, text, what }) => {
    item.className = rank < 2 ? 'bad' : 'warn';
    setText(item.firstChild, text);
    setText(item.lastChild, what);
  });
}

// Adds what a new state tells.
export function notice(now, before) {
  const at = Date.now();
  for (const [kind, key, events, text, what] of before ? causes(now, before) : []) {
    const sum = (active.get(key)?.events ?? 0) + events;
    active.set(key, {
      events: sum, until: at + (events > 0 ? STAY_MS : 1_500), rank: kind === 'bad' ? 1 : 2,
      text: sum > 0 ? `${count(sum)} ${sum === 1 ? 'event' : 'events'} ${text}` : text, what,
    });
  }
  for (const [key, { until }] of active) {
    if (until < at) active.delete(key);
  }
  render();
}

// Says that the numbers are old; `since` is when they came, null when they come again.
export function disconnected(since) {
  if (since === null) {
    active.delete('connection');
  } else {
    active.set('connection', {
      rank: 0, until: Infinity, events: 0, text: 'No connection to Ringside.',
      what: `What you see is from ${since}. Trying again; if it does not come back, look whether the service runs.`,
    });
  }
  render();
}

export const troubled = () => [...active.values()].some(({ rank }) => rank < 2);

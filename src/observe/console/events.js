// The newest events, their filter, and the lists of what occurs most often.

import { byId, clock, count, element, list, setText, short } from './show.js';

const ROWS_MAX = 200;

const LISTS = [
  ['apps', 'Apps', 'app'], ['users', 'Users', 'user'], ['methods', 'Engine methods', 'text'],
  ['hosts', 'Hosts', 'host'], ['complaints', 'Warnings and errors', 'text'],
];

const HEAD = ['time', 'kind', 'level', 'host', 'user', 'app', 'what', 'text'];

export class Events {
  // `ask` is called with the query of the filter when another one is wanted.
  constructor(kinds, ask) {
    this.paused = false;
    this.form = byId('filter');
    for (const kind of [...kinds, 'unknown']) {
      this.form.kind.append(Object.assign(element('option', kind.replace('qseow-', '')), { value: kind }));
    }
    // Another filter is asked for to see other events, so it ends a pause.
    const change = () => this.pause(false);
    let wait;
    this.form.addEventListener('input', () => {
      clearTimeout(wait);
      wait = setTimeout(change, 250);
    });
    this.form.addEventListener('reset', () => setTimeout(change));
    this.form.addEventListener('submit', (event) => event.preventDefault());
    byId('pause').addEventListener('click', () => this.pause(!this.paused));
    this.ask = ask;
    const head = byId('newest').createTHead().insertRow();
    head.append(...HEAD.map((name) => Object.assign(element('th', name), { scope: 'col' })));
    this.body = byId('newest').createTBody();
  }

  // The filter as the query of a URL.
  query() {
    const parts = [...new FormData(this.form)].filter(([, value]) => value.trim());
    return parts.map(([name, value]) => `&${name}=${encodeURIComponent(value.trim())}`).join('');
  }

  pause(paused) {
    this.paused = paused;
    const button = byId('pause');
    button.setAttribute('aria-pressed', String(paused));
    setText(button, paused ? 'Go on' : 'Pause');
    if (!paused) this.ask();
  }

  // A new stream begins: its first events replace what is shown.
  begin() {
    this.fresh = false;
    if (!this.paused) {
      this.body.replaceChildren();
      byId('no-events').hidden = false;
    }
  }

  add(events) {
    if (this.paused) return;
    const rows = events.map((event) => this.row(event));
    if (this.fresh && rows.length < 30) for (const row of rows) row.className = 'fresh';
    this.fresh = true;
    this.body.prepend(...rows);
    while (this.body.rows.length > ROWS_MAX) this.body.lastElementChild.remove();
    byId('no-events').hidden = this.body.rows.length > 0;
  }

  row(event) {
    const row = document.createElement('tr');
    const level = { ERROR: 'bad', FATAL: 'bad', WARN: 'warn' }[event.level] ?? '';
    const cells = [
      [clock(event.at_ms), 'quiet'], [event.kind.replace('qseow-', '')], [event.level, level], [event.host || event.from],
      [event.user], [event.app], [event.what], ['', 'text'],
    ];
    for (const [text, kind] of cells) row.append(element('td', text, kind));
    const text = row.lastChild.appendChild(element('span', event.text));
    text.title = event.text;
    row.cells[3].title = `from ${event.from}`;
    for (const at of [4, 5, 6]) row.cells[at].title = row.cells[at].textContent;
    if (event.rejected) text.prepend(element('b', `${event.rejected.replaceAll('_', ' ')}: `, 'warn'));
    return row;
  }

  // Shows only what goes with a name that was clicked.
  only(part, value) {
    this.form.reset();
    // Complaints have holes where they differ: the longest whole piece is looked for.
    const pieces = value.replace(/^(WARN|ERROR|FATAL) /, '').split('…');
    this.form[part].value = pieces.reduce((a, b) => (b.length > a.length ? b : a)).trim();
    this.pause(false);
    byId('events').scrollIntoView();
  }

  top({ seconds, one_in, newest_one_in, lists }) {
    const minutes = Math.max(1, Math.round(seconds / 60));
    const sampled = one_in > 1;
    setText(byId('top-about'), `the last ${minutes === 1 ? 'minute' : `${minutes} minutes`}`
      + (sampled ? `, estimated: one event in ${short(one_in)} is looked at` : ''));
    setText(byId('events-about'), newest_one_in > 1 ? `one in ${short(newest_one_in)} is shown` : '');
    list(byId('lists'), LISTS, ([name, title]) => {
      const part = element('div', '', name === 'complaints' ? 'wide' : '');
      part.append(element('h3', title), element('ol'), element('p', 'none', 'quiet'));
      return part;
    }, (part, [name, , filter]) => {
      const rows = lists[name];
      part.children[2].hidden = rows.length > 0;
      // A name that took another's place may have that one's count too: what is certain is shown.
      const sure = ({ events, over }) => events - over;
      list(part.children[1], rows, () => this.button(filter), (item, row) => {
        const [bar, label, number] = item.firstChild.children;
        bar.style.width = `${(100 * sure(row)) / sure(rows[0])}%`;
        setText(label, row.name);
        const about = sampled ? '≈ ' : row.over > 0 ? '≥ ' : '';
        setText(number, `${about}${sampled ? short(sure(row)) : count(sure(row))}`);
        item.firstChild.title = row.over > 0 ? `at most ${count(row.events)}` : '';
      });
    });
  }

  button(filter) {
    const item = element('li');
    const button = Object.assign(element('button'), { type: 'button' });
    button.append(element('span', '', 'bar'), element('span', '', 'name'), element('span', '', 'count'));
    button.firstChild.nextSibling.style.position = button.lastChild.style.position = 'relative';
    button.addEventListener('click', () => this.only(filter, button.children[1].textContent));
    item.append(button);
    return item;
  }
}

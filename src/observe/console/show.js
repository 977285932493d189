// How numbers become text, and rows become tables.

export const byId = (id) => document.getElementById(id);
export const count = (n) => Math.round(n).toLocaleString('en');
export const title = (name) => name.replaceAll('_', ' ').replace('qseow-', '');

// A rate or a level, short: 0.4, 12.3, 950, 12.3 k, 1.2 M.
export function short(n) {
  if (n === null || n === undefined) return '–';
  for (const [unit, size] of [[' M', 1e6], [' k', 1e4]]) {
    if (n >= size) return `${+(n / (unit === ' k' ? 1e3 : 1e6)).toPrecision(3)}${unit}`;
  }
  return n >= 100 ? count(n) : `${+n.toPrecision(n < 10 ? 2 : 3)}`;
}

export function bytes(n) {
  let at = 0;
  for (; n >= 1024 && at < 4; at += 1) n /= 1024;
  return `${+n.toPrecision(3)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][at]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 1e-3) return `${+(seconds * 1e6).toPrecision(3)} µs`;
  if (seconds < 1) return `${+(seconds * 1e3).toPrecision(3)} ms`;
  if (seconds < 120) return `${+seconds.toPrecision(3)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');

// An element with text and a class.
export function element(tag, text = '', name = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

export function setText(at, text) {
  if (at.textContent !== text) at.textContent = text;
}

// Makes `parent` have one child per item, in order. Children are kept and updated, so that focus,
// selection and scrolling stay where they are.
export function list(parent, items, make, update) {
  items.forEach((item, at) => {
    const child = parent.children[at] ?? parent.appendChild(make(item));
    update(child, item);
  });
  while (parent.children.length > items.length) parent.lastElementChild.remove();
}

// Fills a table. A row is { cells, part }, or its cells; the first is its heading. A cell is text,
// or { text, kind } with the name of a style.
export function table(at, head, rows) {
  if (!at.tHead) {
    const top = at.createTHead().insertRow();
    for (const name of head) {
      top.append(Object.assign(element('th', name), { scope: 'col' }));
    }
    at.createTBody();
  }
  list(at.tBodies[0], rows, () => document.createElement('tr'), (row, given) => {
    const cells = given.cells ?? given;
    row.className = given.part ? 'part' : '';
    list(row, cells, () => {
      const first = row.children.length === 0;
      return first ? Object.assign(element('th'), { scope: 'row' }) : element('td');
    }, (cell, content) => {
      const { text, kind } = typeof content === 'object' ? content : { text: content, kind: '' };
      setText(cell, String(text));
      if (cell.className !== kind) cell.className = kind;
    });
  });
}

// Charts of the last ten minutes, drawn by uPlot.

import { duration, element, short, setText, title } from './show.js';

const CHARTS = [
  { caption: 'Events accepted per second, by source', prefix: ['accepted:'], stacked: true, text: short },
  { caption: 'Lost per second', prefix: ['lost:', 'upstream:', 'refused:'], text: short, quiet: 'nothing lost' },
  { caption: 'Latency, 99 of 100 events', prefix: ['p99:'], text: duration, log: true },
  { caption: 'Events waiting per destination', prefix: ['waiting:'], text: short, quiet: 'nothing waits' },
];

const NAMES = {
  'lost:user_events': 'dropped, user events', 'lost:log_events': 'dropped, log events',
  'upstream:log_events': 'lost upstream, estimate', 'p99:delivered': 'until delivered',
};

function name(series) {
  const [kind, rest] = [series.slice(0, series.indexOf(':')), series.slice(series.indexOf(':') + 1)];
  if (kind === 'refused') return `given up for ${rest}`;
  return NAMES[series] ?? (kind === 'p99' ? `until in a ${title(rest)}` : title(rest));
}

const colour = (of) => getComputedStyle(document.documentElement).getPropertyValue(of);

// Values of variables are `light-dark(…)`; only a property of an element is resolved.
function resolved(of) {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = colour(of);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - .01); power <= Math.log10(high) + .01; power += 1) {
    found.push(10 ** power);
  }
  return found;
}

class Chart {
  constructor(spec, parent) {
    this.spec = spec;
    this.columns = [];
    this.figure = element('figure', '', 'chart');
    const caption = element('figcaption', spec.caption);
    this.quiet = element('span', '', 'good');
    caption.append(this.quiet);
    this.plot = element('div', '', 'plot');
    this.plot.setAttribute('role', 'img');
    this.plot.setAttribute('aria-label', `${spec.caption}. Nothing yet.`);
    this.legend = element('ul', '', 'legend');
    this.figure.append(caption, this.plot, this.legend);
    parent.append(this.figure);
    new ResizeObserver(() => this.size()).observe(this.plot);
  }

  size() {
    this.chart?.setSize({ width: this.plot.clientWidth, height: 180 });
  }

  // The columns that have something to show; one at least, so that there is an axis.
  begin(series) {
    const fits = series.filter((name) => this.spec.prefix.some((prefix) => name.startsWith(prefix)));
    this.all = fits.map((name) => [name, series.indexOf(name)]);
    this.columns = [];
  }

  draw(times, values) {
    const used = this.all.filter(([, at]) => values[at].some((value) => value > 0));
    const columns = used.length > 0 ? used : this.all.slice(0, 1);
    if (columns.length !== this.columns.length || columns.some(([name], at) => name !== this.columns[at][0])) {
      this.columns = columns;
      this.build();
    }
    this.raw = this.columns.map(([, at]) => values[at]);
    this.chart.setData([times, ...this.stack()]);
    this.tell();
    if (this.spec.quiet) setText(this.quiet, used.length === 0 ? this.spec.quiet : '');
  }

  // Each series on the shoulders of those before it, the highest first so that it is painted first.
  stack() {
    if (!this.spec.stacked) return this.raw;
    let sum = null;
    const stacked = this.raw.map((column) => {
      sum = column.map((value, at) => (value ?? 0) + (sum?.[at] ?? 0));
      return sum;
    });
    return stacked.reverse();
  }

  // What stands beside the names: the values under the cursor, else the newest.
  tell(index = this.chart.cursor.idx) {
    const newest = (this.raw[0]?.length ?? 0) - 1;
    const at = index ?? newest;
    const texts = this.columns.map((_, column) => this.spec.text(this.raw[column]?.[at] ?? null));
    [...this.legend.children].forEach((item, column) => setText(item.lastChild, texts[column]));
    const summary = this.columns.map(([series], column) => `${name(series)} ${this.spec.text(this.raw[column]?.[newest] ?? null)}`);
    this.plot.setAttribute('aria-label', `${this.spec.caption}. Now: ${summary.join(', ')}.`);
  }

  build() {
    this.chart?.destroy();
    const { spec } = this;
    const [ink, line] = [resolved('--quiet'), resolved('--line')];
    const colours = this.columns.map(([series]) => resolved(`--c${this.all.findIndex(([name]) => name === series) % 8}`));
    this.legend.replaceChildren(...this.columns.map(([series], at) => {
      const item = element('li');
      const swatch = element('span', '', 'swatch');
      swatch.style.background = colours[at];
      item.append(swatch, `${name(series)} `, element('b'));
      return item;
    }));
    const painted = spec.stacked ? [...colours].reverse() : colours;
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: '12px system-ui, sans-serif' };
    // Of a logarithmic axis only powers of ten.
    const powers = spec.log ? { splits: (_, __, low, high) => decades(low, high) } : {};
    this.chart = new uPlot({
      width: this.plot.clientWidth || 400, height: 180, padding: [8, 28, 0, 0], legend: { show: false },
      cursor: { sync: { key: 'ringside' }, y: false, points: { show: !spec.stacked } },
      scales: {
        x: { time: true },
        y: spec.log ? { distr: 3 } : { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] },
      },
      axes: [{ ...axis, space: 70, values: '{HH}:{mm}:{ss}' }, { ...axis, ...powers, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : spec.text(tick))) }],
      series: [{}, ...painted.map((stroke) => ({
        stroke, width: spec.stacked ? 1 : 1.75, fill: spec.stacked ? stroke.replace('rgb(', 'rgba(').replace(')', ', .8)') : undefined, points: { show: false },
      }))],
      hooks: { setCursor: [(chart) => this.raw && this.tell(chart.cursor.idx)] },
    }, [[], ...this.columns.map(() => [])], this.plot);
  }
}

export class Charts {
  constructor(parent) {
    this.charts = CHARTS.map((spec) => new Chart(spec, parent));
    this.times = null;
  }

  // The last minutes, as the server has them.
  begin({ series, points }) {
    this.times = points.map((point) => point.at_s);
    this.values = series.map((_, at) => points.map((point) => point.values[at]));
    for (const chart of this.charts) chart.begin(series);
    this.draw();
  }

  add(point) {
    if (!this.times?.length || point.values.length !== this.values.length || point.at_s <= this.times.at(-1)) return;
    this.times.push(point.at_s);
    this.values.forEach((column, at) => column.push(point.values[at]));
    if (this.times.length > 600) for (const column of [this.times, ...this.values]) column.shift();
    this.draw();
  }

  draw() {
    if (!this.times?.length || document.hidden) return;
    for (const chart of this.charts) chart.draw(this.times, this.values);
  }

  // After the theme has changed.
  repaint() {
    for (const chart of this.charts) chart.columns = [];
    this.draw();
  }
}

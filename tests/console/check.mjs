// The console page in a real browser, against the real program: what each state shows, that filters
// and keys work, that nothing breaks the content security policy, and what axe finds.
// Pictures of each state are left in tests/console/seen/.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { open } from './browser.mjs';

const HERE = path.dirname(new URL(import.meta.url).pathname);
const BINARY = process.env.RINGSIDE_BINARY ?? path.join(HERE, '../../target/debug/ringside');
const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SEEN = path.join(HERE, 'seen');
const PATIENCE_MS = 30_000;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ringside-console-'));
fs.mkdirSync(SEEN, { recursive: true });
const children = new Set();
const failures = [];

function check(what, holds, detail = '') {
  console.log(`${holds ? 'ok    ' : 'FAILED'} ${what}${holds ? '' : `: ${detail}`}`);
  if (!holds) failures.push(what);
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const ports = { console: await freePort(), user: await freePort(), log: await freePort(), closed: await freePort() };
const config = path.join(folder, 'ringside.yaml');
fs.writeFileSync(config, `Butler-SOS:
  userEvents:
    enable: true
    sendToInfluxdb: { enable: true }
    udpServerConfig: { serverHost: 127.0.0.1, portUserActivityEvents: ${ports.user} }
  logEvents:
    source: { engine: { enable: true }, proxy: { enable: true }, repository: { enable: true }, scheduler: { enable: true }, qixPerf: { enable: true } }
    enginePerformanceMonitor: { enable: true, monitorFilter: { allApps: { enable: true } } }
    sendToInfluxdb: { enable: true }
    udpServerConfig:
      serverHost: 127.0.0.1
      portLogEvents: ${ports.log}
      rateLimit: { enable: true, maxMessagesPerMinute: 2000 }
  influxdbConfig: { enable: true, host: 127.0.0.1, port: ${ports.closed}, version: 3, v3Config: { token: hush-hush } }
  ringside:
    console: { port: ${ports.console} }
    shutdownTimeout: 1s
    spool: { dir: ${folder}/spool }
    ndjson: { enable: true, path: ${folder}/events.ndjson }
`);

function start(...args) {
  const child = spawn(BINARY, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  child.log = '';
  child.stderr.on('data', (text) => { child.log += text; });
  children.add(child);
  child.on('exit', () => children.delete(child));
  return child;
}

async function engine() {
  const child = start('run', '-c', config);
  await until('the engine is ready', () => child.log.includes('ready'), () => child.log);
  return child;
}

async function stop(child) {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
}

async function until(what, holds, detail = () => '') {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    if (await holds()) return check(what, true);
    await new Promise((done) => setTimeout(done, 50));
  }
  check(what, false, await detail());
}

const send = (rate, seconds) => start('send', '--to', `127.0.0.1:${ports.log}`, '--user-to', `127.0.0.1:${ports.user}`,
  '--rate', String(rate), '--for', String(seconds), '--sources', '3');

// The page in each of its looks, told what to expect of it.
const looks = [['light', {}], ['dark', { dark: true }], ['phone', { phone: true }]];
const pages = [];
for (const [look, options] of looks) pages.push({ look, ...(await open(options)) });
const first = pages[0].page;

async function everywhere(state, ready) {
  for (const { look, page } of pages) {
    await page.bringToFront();
    await until(`${state}, ${look}: shown`, () => page.evaluate(ready), () => page.evaluate('document.body.innerText.slice(0, 500)'));
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }));
    const found = violations.map(({ id, nodes }) => `${id} ${nodes.map((node) => `${node.target} ${node.failureSummary}`).slice(0, 3).join(' | ')}`);
    check(`${state}, ${look}: accessible`, violations.length === 0, found.join('\n'));
    const wide = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
    check(`${state}, ${look}: no wider than its window`, wide <= 0, `${wide} px`);
    await page.screenshot({ path: path.join(SEEN, `${state}-${look}.png`), fullPage: true });
  }
}

try {
  let ringside = await engine();
  const url = `http://127.0.0.1:${ports.console}/`;
  for (const { page } of pages) await page.goto(url);

  await everywhere('empty', '!document.getElementById("empty").hidden && document.body.dataset.traffic === "none"');

  const load = send(20, 60);
  await until('the first event is shown', () => first.evaluate('document.querySelectorAll("#newest tbody tr").length > 0'));
  await everywhere('busy', 'document.querySelectorAll("#charts canvas").length === 4 && document.querySelectorAll("#lists li").length > 10 && document.querySelectorAll("#newest tbody tr").length > 20');

  await first.bringToFront();
  const cells = (column) => first.evaluate((at) => [...document.querySelectorAll('#newest tbody tr')].map((row) => row.cells[at].textContent), column);
  await first.select('#filter [name=kind]', 'qseow-qix-perf');
  await until('a kind is filtered', async () => { const seen = await cells(1); return seen.length > 0 && seen.every((kind) => kind === 'qix-perf'); }, () => cells(1));
  await first.click('#filter [type=reset]');
  await until('a filter is cleared', async () => new Set(await cells(1)).size > 1, () => cells(1));
  await first.evaluate('document.activeElement.blur()');
  await first.keyboard.press('/');
  check('the key / goes to the text filter', await first.evaluate('document.activeElement.name') === 'text');
  await first.keyboard.type('GetLayout');
  await until('a text is filtered', async () => { const seen = await cells(6); return seen.length > 0 && seen.every((what) => what.includes('GetLayout')); }, () => cells(6));
  await first.keyboard.press('Escape');
  await first.click('#filter [type=reset]');
  await until('users are listed', () => first.evaluate('document.querySelectorAll("#lists > :nth-child(2) li").length > 0'));
  const user = await first.evaluate(() => { const button = document.querySelector('#lists > :nth-child(2) button'); button.click(); return button.children[1].textContent; });
  await until('a click on a user shows that user', async () => { const seen = await cells(4); return seen.length > 0 && seen.every((name) => name === user); }, () => cells(4));
  await first.click('#filter [type=reset]');
  await first.evaluate('document.activeElement.blur()');
  await first.keyboard.press('p');
  check('the key p pauses', await first.evaluate('document.getElementById("pause").getAttribute("aria-pressed")') === 'true');
  await first.keyboard.press('p');
  await first.keyboard.press('t');
  await first.keyboard.press('t');
  check('the key t changes the theme', await first.evaluate('document.documentElement.dataset.theme') === 'dark');
  await first.keyboard.press('t');
  const settings = await first.evaluate('document.getElementById("config").textContent');
  const series = await first.evaluate('document.getElementById("series").innerText');
  check('the series of InfluxDB are shown', /log_event/.test(series) && /\w+: \d+/.test(series), series);
  check('the settings are shown', settings.includes('Butler-SOS:') && settings.includes('v3Config'), settings.slice(0, 200));
  check('secrets are masked', settings.includes('***') && !settings.includes('hush'));
  await stop(load);

  const flood = send(2000, 40);
  const text = 'document.getElementById("notices").textContent';
  await everywhere('overloaded', `${text}.includes("rate limit") && ${text}.includes("influxdb does not take events")`);
  check('the tile of losses is alarmed', await first.evaluate('document.querySelectorAll(".tile.alarm").length > 0'));
  await stop(flood);

  for (const { look, problems } of pages) check(`${look}: no error in the browser's console`, problems.length === 0, problems.join('\n'));
  await stop(ringside);
  await everywhere('disconnected', 'document.body.dataset.connection === "lost" && document.getElementById("notices").textContent.includes("No connection")');
  const started = Date.now();
  ringside = await engine();
  await until('the page comes back by itself', () => first.evaluate('document.body.dataset.connection === "open" && document.body.dataset.traffic === "none"'));
  const again = send(20, 60);
  await until('an event is shown', () => first.evaluate('document.body.dataset.traffic === "some" && document.querySelectorAll("#newest tbody tr").length > 0'));
  const took = Date.now() - started;
  check(`it is there in less than 10 s after the start: ${took} ms`, took < 10_000);
  await stop(again);
  await stop(ringside);
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const { browser } of pages) await browser.close();
  fs.rmSync(folder, { recursive: true, force: true });
}
console.log(failures.length === 0 ? 'all well' : `${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);

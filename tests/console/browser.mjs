// A headless Chromium with one page, and what goes wrong in it.
import fs from 'node:fs';
import path from 'node:path';
import puppeteer from 'puppeteer-core';

const SOURCE = path.join(path.dirname(new URL(import.meta.url).pathname), '../../src/observe/console');

export async function open({ dark = false, phone = false } = {}) {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  const page = await browser.newPage();
  await page.setViewport(phone
    ? { width: 390, height: 844, deviceScaleFactor: 1, isMobile: true, hasTouch: true }
    : { width: 1280, height: 900, deviceScaleFactor: 1 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]);
  const problems = [];
  page.on('pageerror', (error) => problems.push(`script: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(`${message.text()} ${message.location().url ?? ''}`);
  });
  if (process.env.PAGE_FROM_SOURCE) await fromSource(page);
  return { browser, page, problems };
}

// For whoever changes the page: its files come from the source folder, so nothing has to be built.
async function fromSource(page) {
  const read = (name) => fs.readFileSync(path.join(SOURCE, name), 'utf8');
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    const file = pathname.match(/^\/assets\/((?!uplot).*)$/)?.[1];
    if (pathname === '/') {
      request.respond({ contentType: 'text/html; charset=utf-8', body: read('page.html').replaceAll('{{nonce}}', 'source') });
    } else if (file) {
      request.respond({ contentType: file.endsWith('.css') ? 'text/css' : 'text/javascript', body: read(file) });
    } else {
      request.continue();
    }
  });
}

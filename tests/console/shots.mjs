// Takes a picture of a running console: node shots.mjs URL FILE [dark] [phone] [full]
// WAIT: seconds before; DO: script to run before.
import { open } from './browser.mjs';

const [url, file, ...options] = process.argv.slice(2);
const { browser, page, problems } = await open({ dark: options.includes('dark'), phone: options.includes('phone') });
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
await page.goto(url);
await pause(Number(process.env.WAIT ?? 4));
if (process.env.DO) {
  await page.evaluate(process.env.DO);
  await pause(1);
}
await page.screenshot({ path: file, fullPage: options.includes('full') });
if (problems.length > 0) console.log(problems.join('\n'));
await browser.close();

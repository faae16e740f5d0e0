// Chromium with nothing of its own: a new profile, no service that calls home. Watches every page it opens.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

/**
 * `problems` gathers console errors, uncaught exceptions, breaches of the content policy and requests to another host. `quietly(action)`
 * runs what makes the server refuse: Chromium logs each refused request as an error, which then is no problem.
 */
export async function open(base, { executablePath, ...options }) {
  const folder = await mkdtemp(join(tmpdir(), "embral-page-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath, headless: true, args: FLAGS, viewport: { width: 1280, height: 900 }, ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  let quiet = false;
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (quiet && message.text().startsWith("Failed to load resource")) return;
    problems.push(`console: ${message.text()}`);
  });
  context.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`) && !request.url().startsWith("data:")) problems.push(`request to ${request.url()}`);
  });
  await page.addInitScript(() => {
    window.breaches = [];
    document.addEventListener("securitypolicyviolation", (event) => window.breaches.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  return {
    page,
    problems,
    async quietly(action) {
      quiet = true;
      try {
        return await action();
      } finally {
        // The log of a refused request may come after its answer.
        await page.waitForTimeout(150);
        quiet = false;
      }
    },
    async close() {
      await context.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

/** Serves a page of the loopback that runs one bundled file, for tests in a browser. */
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { projectFolder } from "./program.ts";

export interface Site {
  /** `http://localhost:<port>/` */
  url: string;
  stop(): Promise<void>;
}

/** @param entry the file, from the project's folder */
export async function startSite(entry: string): Promise<Site> {
  const built = await Bun.build({ entrypoints: [join(projectFolder, entry)], target: "browser", sourcemap: "inline" });
  const script = await built.outputs[0]!.text();
  const headers = { "content-type": "text/javascript" };
  const page = '<!doctype html><meta charset="utf-8"><title>test</title><script type="module" src="/page.js"></script>';
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    routes: {
      "/": new Response(page, { headers: { "content-type": "text/html" } }),
      "/page.js": new Response(script, { headers }),
    },
  });
  return { url: `http://localhost:${server.port}/`, stop: () => server.stop(true) };
}

export interface Tab {
  page: Page;
  /** Runs what the page offers as `tab`, and gives what comes of it. */
  does(what: string): Promise<any>;
}

/** Opens a page that offers a `tab`, once it does; `script` runs in it before anything else. */
export async function openTab(
  context: BrowserContext,
  { url, script }: Pick<Site, "url"> & { script?: string },
  query: Record<string, string>,
): Promise<Tab> {
  const page = await context.newPage();
  if (script !== undefined) await page.addInitScript(script);
  await page.goto(`${url}?${new URLSearchParams(query)}`);
  await page.waitForFunction("globalThis.tab");
  return { page, does: (what) => page.evaluate(`tab.${what}`) as Promise<any> };
}

/** Serves a page of the loopback that runs one bundled file, for tests in a browser. */
import { join } from "node:path";
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

/** Starts what `npm run demo` starts, on free ports, and the same page built, and ends both. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { build, preview } from "vite";

export interface Demo {
  /** Where the page is served from its sources, with a slash at its end. */
  url: string;
  /** Where it is served as an application would, built: a browser with an empty profile loads one script instead of all modules. */
  builtUrl: string;
  /** `ws://localhost:<port>/ws` */
  service: string;
  stop(): Promise<void>;
}

export async function startDemo(): Promise<Demo> {
  const root = resolve(import.meta.dir, "../..");
  const child = Bun.spawn([process.execPath, join(root, "examples/chat/demo.ts")], {
    env: { ...process.env, PORT: "0" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    said += decoder.decode(chunk, { stream: true });
    const url = /(http:\S+)beside\.html/.exec(said)?.[1];
    const service = /ws:\S+/.exec(said)?.[0];
    if (url === undefined || service === undefined) continue;
    const built = await serveBuilt(service);
    return {
      url,
      builtUrl: built.url,
      service,
      async stop() {
        child.kill("SIGTERM");
        await Promise.all([child.exited, built.stop()]);
      },
    };
  }
  throw new Error(`The demo did not start: ${said}${await new Response(child.stderr).text()}`);
}

/** @param service what the page is to connect to */
async function serveBuilt(service: string): Promise<{ url: string; stop(): Promise<void> }> {
  const outDir = mkdtempSync(join(tmpdir(), "ws-demo-page-"));
  const settings = {
    configFile: resolve(import.meta.dir, "../../examples/chat/vite.config.ts"),
    define: { "import.meta.env.VITE_SERVER": JSON.stringify(service) },
    logLevel: "error",
    build: { outDir },
  } as const;
  await build(settings);
  const server = await preview({ ...settings, preview: { port: 0, host: "localhost" } });
  return {
    url: server.resolvedUrls!.local[0]!,
    async stop() {
      await server.close();
      rmSync(outDir, { recursive: true });
    },
  };
}

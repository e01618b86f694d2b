/** Starts what `npm run demo` starts, on free ports, and ends it. */
import { join, resolve } from "node:path";

export interface Demo {
  /** The page's address, with a slash at its end. */
  url: string;
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
    return {
      url,
      service,
      async stop() {
        child.kill("SIGTERM");
        await child.exited;
      },
    };
  }
  throw new Error(`The demo did not start: ${said}${await new Response(child.stderr).text()}`);
}

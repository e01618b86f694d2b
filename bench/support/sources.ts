/** Starts the service from the sources of a build, this one or another, and reads where it listens by what it logs. */
import { join } from "node:path";

export interface FromSources {
  /** Where the build is checked out, with its dependencies. */
  root: string;
  /** Its working directory. */
  folder: string;
  /** Of its storage, whose schema is made where that is PostgreSQL's. */
  url: string;
  /** Of its configuration, as environment variables. */
  settings?: Record<string, string>;
}

export async function startFromSources({ root, folder, url, settings }: FromSources) {
  const env = {
    PATH: process.env.PATH ?? "",
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: url,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__LOG__LEVEL: "info",
    ...settings,
  };
  const run = (word: string) =>
    Bun.spawn([process.execPath, join(root, "src/main.ts"), word], {
      cwd: folder,
      env,
      stdout: "pipe",
      stderr: "inherit",
    });
  if (!url.startsWith("sqlite:")) await run("migrate").exited;
  const child = run("serve");
  return { child, port: await portOf(child.stdout) };
}

function portOf(stream: ReadableStream<Uint8Array>): Promise<number> {
  const { promise, resolve: found } = Promise.withResolvers<number>();
  void (async () => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (text.length < 65_536) text += decoder.decode(chunk, { stream: true });
      const port = /"url":"ws:\/\/[^:]+:(\d+)\//.exec(text)?.[1];
      if (port !== undefined) found(Number(port));
    }
  })();
  return promise;
}

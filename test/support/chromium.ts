/** Finds Chromium, or installs Debian's where that is possible without asking, and starts it headless. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const usualFile = "/usr/bin/chromium";
const installation = "apt-get update && apt-get install -y --no-install-recommends chromium";

/** @returns the executable's path. @throws Error with the exact command, where it is neither there nor can be installed */
export function ensureChromium(): string {
  const named = process.env.CHROMIUM_PATH;
  if (named !== undefined && named !== "") {
    if (!existsSync(named)) throw new Error(`CHROMIUM_PATH is ${named}, and there is nothing.`);
    return named;
  }
  if (existsSync(usualFile)) return usualFile;
  const advice = `The browser tests need Chromium: ${installation} (as root), or CHROMIUM_PATH=<file>.`;
  if (process.getuid?.() !== 0 || Bun.which("apt-get") === null) throw new Error(advice);
  console.log(`installing Chromium: ${installation}`);
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-c", installation], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdout: "ignore",
    stderr: "pipe",
  });
  if (exitCode !== 0 || !existsSync(usualFile)) throw new Error(`${advice} Installing it failed: ${stderr}`);
  return usualFile;
}

/** A browser with an empty profile of its own; the caller closes it. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: ensureChromium(),
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      // Media without a microphone, and loopback addresses instead of names that no resolver here knows.
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
  });
}

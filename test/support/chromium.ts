/** Finds Chromium without windows, or installs Debian's where that is allowed, and starts it. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";
import { debianProgram } from "./debian.ts";

/** The browser with windows, which does as well and takes twice the time of the processor. */
const withWindows = "/usr/bin/chromium";

/** @returns the executable's path. @throws Error where it is neither there nor can be installed */
export function ensureChromium(): string {
  const named = process.env.CHROMIUM_PATH;
  if (named === undefined || named === "") {
    try {
      return debianProgram("chromium-headless-shell", {
        package: "chromium-headless-shell",
        otherwise: "CHROMIUM_PATH=<file>",
      });
    } catch (error) {
      if (existsSync(withWindows)) return withWindows;
      throw error;
    }
  }
  if (!existsSync(named)) throw new Error(`CHROMIUM_PATH is ${named}, and there is nothing.`);
  return named;
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

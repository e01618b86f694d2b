/** Proves what is said of something that does not work: once when it goes and once when it is back, and nothing of a stop. */
import { expect, test } from "bun:test";
import { Stopped, Unavailable } from "../../src/ground/unavailable.ts";
import { warnsOnce } from "../../src/telemetry/outage.ts";

test("an outage is told once, and so is its end; what this process has stopped itself is none", () => {
  const lines: string[] = [];
  const note = (_: object, text?: string) => void lines.push(text!);
  const outage = warnsOnce({ info: note, warn: note, error: note } as never, "it waits", "it goes on");
  outage.began(new Stopped("storage", "The storage is stopped."));
  outage.ended();
  expect(lines).toEqual([]);
  for (let times = 0; times < 2; times++) outage.began(new Unavailable("storage", "It is away."));
  outage.began(new Stopped("storage", "The storage is stopped."));
  outage.ended();
  expect(lines).toEqual(["it waits", "it goes on"]);
});

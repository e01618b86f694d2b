/** Proves that the console's last hour has what a node says late, and no more than an hour [ADM1]. */
import { expect, test } from "bun:test";
import { LastHour, type Sample } from "../../src/console/last-hour.ts";

const step_ms = 600_000;
const sample = (minute: number, connections: number): Sample => ({
  at: new Date(Date.UTC(2026, 10, 30, 10, minute)).toISOString(),
  ...{ connections, messages_in: 0, messages_out: 0, events: 0, appends: 0, append_ms: 0, append_ms_max: 0 },
  ...{ deliveries: 0, delivery_ms: 0, delivery_ms_max: 0, position: 0, lag: 0, missed: 0, slow_clients: 0 },
  ...{ refusals: {}, memory_bytes: 0 },
});
const answer = (samples: Sample[], missing_nodes: string[] = []) => ({ step_ms, samples, missing_nodes });
const shown = (samples: readonly Sample[]) => samples.map(({ connections }) => connections);

test("[ADM1] what a node has not answered for is asked for again, and takes the place of what was shown without it", () => {
  const hour = new LastHour();
  expect(hour.after).toBeUndefined();
  expect(shown(hour.take(answer([sample(0, 3), sample(10, 3), sample(20, 3)])))).toEqual([3, 3, 3]);
  const { after } = hour;
  expect(after).toBe(sample(0, 3).at);
  const without = [sample(10, 3), sample(20, 3), sample(30, 1)];
  expect(shown(hour.take(answer(without, ["n3"])))).toEqual([3, 3, 3, 1]);
  expect(hour.after).toBe(after);
  const whole = [sample(10, 3), sample(20, 3), sample(30, 3), sample(40, 3)];
  expect(shown(hour.take(answer(whole)))).toEqual([3, 3, 3, 3, 3]);
  expect(hour.after).toBe(sample(20, 3).at);
});

test("[ADM1] the newest are asked for again in any case, for clocks of nodes differ", () => {
  const hour = new LastHour();
  hour.take(answer([sample(0, 3), sample(10, 3), sample(20, 2)]));
  expect(shown(hour.take(answer([sample(10, 3), sample(20, 3), sample(30, 2)])))).toEqual([3, 3, 3, 2]);
});

test("[ADM1] it is never longer than an hour", () => {
  const hour = new LastHour();
  for (let minute = 0; minute < 60; minute += 10) {
    const from = hour.after === undefined ? 0 : new Date(hour.after).getUTCMinutes() + 10;
    hour.take(
      answer(Array.from({ length: (minute - from) / 10 + 1 }, (_, at) => sample(from + at * 10, from + at * 10))),
    );
  }
  const more = [40, 50, 60, 70].map((minute) => sample(minute, minute));
  expect(shown(hour.take(answer(more, ["n3"])))).toEqual([20, 30, 40, 50, 60, 70]);
  expect(shown(hour.take(answer(more)))).toEqual([20, 30, 40, 50, 60, 70]);
});

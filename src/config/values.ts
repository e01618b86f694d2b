/** How durations, sizes and numbers are written in a configuration. */
import * as v from "valibot";

const durationUnits: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const sizeUnits: Record<string, number> = { "": 1, B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** `250ms`, `10s`, `5m`, `720h`, `30d` → milliseconds. */
export const duration = v.pipe(
  v.string("must be a duration such as 10s"),
  v.regex(/^\d+(\.\d+)?(ms|s|m|h|d)$/, "must be a duration such as 250ms, 10s, 5m, 24h or 30d"),
  v.transform((text) => {
    const [, amount, unit] = /^([\d.]+)(\w+)$/.exec(text)!;
    return Math.round(Number(amount) * durationUnits[unit!]!);
  }),
);

/** A number of bytes, or `64KiB`, `10MiB` → bytes. */
export const size = v.pipe(
  v.union([v.number(), v.string()], "must be a size such as 65536 or 10MiB"),
  v.transform(String),
  v.regex(/^\d+(B|KiB|MiB|GiB)?$/, "must be a size such as 65536 or 10MiB"),
  v.transform((text) => {
    const [, amount, unit = ""] = /^(\d+)(\w*)$/.exec(text)!;
    return Number(amount) * sizeUnits[unit]!;
  }),
);

export const whole = (least: number, most: number) =>
  v.pipe(
    v.number(`must be a whole number from ${least} to ${most}`),
    v.integer(`must be a whole number from ${least} to ${most}`),
    v.minValue(least, `must be a whole number from ${least} to ${most}`),
    v.maxValue(most, `must be a whole number from ${least} to ${most}`),
  );

export const strings = v.array(v.string("must be a string"), "must be a list");

/** `host:port` → both. */
export const listenAddress = v.pipe(
  v.string("must be host:port"),
  v.regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, "must be host:port"),
  v.transform((text) => {
    const colon = text.lastIndexOf(":");
    return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
  }),
);

/** Reads durations, sizes and numbers as they are written in a configuration. */
import * as v from "valibot";

/** Milliseconds of each unit, the longest first. */
export const durationUnits: Record<string, number> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
/** Bytes of each unit, the largest first. */
export const sizeUnits: Record<string, number> = { GiB: 1024 ** 3, MiB: 1024 ** 2, KiB: 1024, B: 1 };

/** `10s` → milliseconds; null where the text is no duration. */
export function parseDuration(text: string): number | null {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  return unit === undefined ? null : Math.round(Number(amount) * durationUnits[unit]!);
}

/** Timers of the platform fire at once beyond 2^31 - 1 ms (24.8 days). */
const timerMax = 24 * 86_400_000;
const ageMax = 100 * 365 * 86_400_000;

const durationBetween = ({ leastMs, mostMs, message }: { leastMs: number; mostMs: number; message: string }) =>
  v.pipe(
    v.string(message),
    v.check((text) => parseDuration(text) !== null, message),
    v.transform((text) => parseDuration(text)!),
    v.check((ms) => ms >= leastMs && ms <= mostMs, message),
  );

/** `0s`, `250ms`, `10s`, `5m`, `24h`, `1d` → milliseconds. */
export const duration = durationBetween({
  leastMs: 0,
  mostMs: timerMax,
  message: "must be a duration such as 250ms, 10s, 5m or 24h, at most 24d",
});

/** As `duration`, but not 0: what happens again and again, or must leave time to answer. */
export const interval = durationBetween({
  leastMs: 1,
  mostMs: timerMax,
  message: "must be a duration from 1ms to 24d, such as 250ms, 10s, 5m or 24h",
});

/** As `interval`, but no timer waits for it, so it may be long. */
export const age = durationBetween({
  leastMs: 1,
  mostMs: ageMax,
  message: "must be a duration from 1ms to 36500d, such as 12h or 30d",
});

/** A wait on purpose, of which clients should not notice: 0 to a second. */
export const delay = durationBetween({
  leastMs: 0,
  mostMs: 1_000,
  message: "must be a duration from 0s to 1s, such as 25ms",
});

/** So far apart that a ring of an hour stays small, and near enough for a graph. */
export const sampleInterval = durationBetween({
  leastMs: 1_000,
  mostMs: 300_000,
  message: "must be a duration from 1s to 5m, such as 10s",
});

export const durations: ReadonlySet<unknown> = new Set([duration, interval, age, delay, sampleInterval]);

const sizeMessage = "must be a size such as 65536 or 10MiB (B, KiB, MiB, GiB), at most 1024GiB";

/** A number of bytes, or `64KiB`, `10MiB` → bytes. */
export const size = v.pipe(
  v.union([v.number(), v.string()], sizeMessage),
  v.transform(String),
  v.regex(/^\d+(B|KiB|MiB|GiB)?$/, sizeMessage),
  v.transform((text) => {
    const [, amount, unit = "B"] = /^(\d+)(\w+)?$/.exec(text)!;
    return Number(amount) * sizeUnits[unit]!;
  }),
  v.maxValue(1_024 ** 4, sizeMessage),
);

export const whole = (least: number, most: number) =>
  v.pipe(
    v.number(`must be a whole number from ${least} to ${most}`),
    v.integer(`must be a whole number from ${least} to ${most}`),
    v.minValue(least, `must be a whole number from ${least} to ${most}`),
    v.maxValue(most, `must be a whole number from ${least} to ${most}`),
  );

const ratioExpected = "must be a number from 0 to 1";

/** How many of all: 0.01 is one in a hundred. */
export const ratio = v.pipe(v.number(ratioExpected), v.minValue(0, ratioExpected), v.maxValue(1, ratioExpected));

const headersExpected = "must be name=value, with a comma between several";

/** Headers of HTTP in one text: `authorization=Bearer abc,x-tenant=1`. */
export const headerTexts = v.pipe(
  v.string("must be text"),
  v.regex(
    /^\s*[\w!#$%&'*+.^`|~-]+=[\x20-\x2b\x2d-\x7e]+(,\s*[\w!#$%&'*+.^`|~-]+=[\x20-\x2b\x2d-\x7e]+)*$/,
    headersExpected,
  ),
);

const whetherExpected = "must be one of auto, true, false";

/** `true` and `false` as text or not, and `auto` for what finds out by itself. */
export const whether = v.pipe(
  v.union([v.boolean(), v.string()], whetherExpected),
  v.transform(String),
  v.picklist(["auto", "true", "false"], whetherExpected),
);

export const strings = v.array(v.string("must be text"), "must be a list of text");

/** A table or view of the database: `schema.name`. */
export const tableName = v.pipe(
  v.string("must be a table or view such as app.users"),
  v.regex(/^[A-Za-z_]\w{0,62}\.[A-Za-z_]\w{0,62}$/, "must be a table or view such as app.users"),
);

const endpoint = (message: string) =>
  v.pipe(
    v.string(message),
    v.regex(/^(\[[0-9a-fA-F:]+\]|[^[\]:,=@/\s]+):\d{1,5}$/, message),
    v.check((text) => {
      const port = Number(text.slice(text.lastIndexOf(":") + 1));
      return port >= 1 && port <= 65_535;
    }, message),
  );
const endpointExpected = "must be host:port, such as redis-1.internal:6379";
const endpointsMax = 1_000;

/** `host:port` → `host:port`, for addresses that are others from here. */
export const endpointMap = v.pipe(
  v.record(endpoint(endpointExpected), endpoint(endpointExpected), "must be a mapping of host:port to host:port"),
  v.maxEntries(endpointsMax, `must be at most ${endpointsMax} addresses`),
);

const rolesMax = 100;
const roleMapExpected = "must be a mapping of a token's roles to service or admin";

/** Maps what a token says to `service` or `admin`. */
export const roleMap = v.pipe(
  v.record(
    v.pipe(v.string(), v.minLength(1, roleMapExpected)),
    v.picklist(["service", "admin"], roleMapExpected),
    roleMapExpected,
  ),
  v.maxEntries(rolesMax, `must be at most ${rolesMax} roles`),
);

const eventsMax = 1_000;
const eventsExpected =
  'must be a mapping of types such as poll.vote to {logged: true} or {logged: false} (in one text: "poll.vote=logged,recording=passing")';

/** Types of events → whether they are logged. */
export const eventMap = v.pipe(
  v.record(
    v.pipe(v.string(), v.regex(/^[a-z][a-z0-9_.]{0,63}$/, eventsExpected)),
    v.union(
      [
        v.strictObject({ logged: v.boolean() }),
        v.pipe(
          v.picklist(["logged", "passing"]),
          v.transform((text) => ({ logged: text === "logged" })),
        ),
      ],
      eventsExpected,
    ),
    eventsExpected,
  ),
  v.maxEntries(eventsMax, `must be at most ${eventsMax} types`),
);

/** `host:port` → both. */
export const listenAddress = v.pipe(
  v.string("must be host:port, such as 127.0.0.1:9090"),
  v.regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, "must be host:port, such as 127.0.0.1:9090"),
  v.check((text) => Number(text.slice(text.lastIndexOf(":") + 1)) <= 65535, "must have a port up to 65535"),
  v.transform((text) => {
    const colon = text.lastIndexOf(":");
    return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
  }),
);

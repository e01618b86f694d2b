/** Proves how errors look in the log: all in one way, what is expected without a stack, and nothing of what they carry. */
import { describe, expect, test } from "bun:test";
import { RedisUnavailable } from "../../src/cluster/redis/unavailable.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import { loggedError } from "../../src/telemetry/logger.ts";

describe("an error in the log", () => {
  test("a fault has its stack, and the error that it comes of", () => {
    const cause = new RangeError("too far");
    expect(loggedError(new TypeError("no such field", { cause }))).toEqual({
      type: "TypeError",
      message: "no such field",
      stack: expect.stringContaining("logged-errors.test.ts"),
      cause: "RangeError: too far",
    });
  });

  test("an engine that is away and a refusal are told in one line", () => {
    for (const error of [
      new Unavailable("storage", "PostgreSQL: connection refused", { cause: new Error("connection refused") }),
      new RedisUnavailable("away"),
      new Unavailable("auth", "no keys"),
    ])
      expect(loggedError(error)).toEqual({ type: "Unavailable", part: error.part, message: error.message });
    const refusal = new ProtocolError("forbidden", "No.");
    expect(loggedError(refusal)).toEqual({ type: "ProtocolError", message: "No." });
  });

  test("the code is told; what a driver hangs on its errors is not", () => {
    const error = Object.assign(new Error("ERR wrong"), {
      code: "ERR",
      command: { name: "hset", args: ["sdp of somebody"] },
      query: "INSERT",
    });
    expect(loggedError(error)).toEqual({ type: "Error", code: "ERR", message: "ERR wrong", stack: expect.any(String) });
  });

  test("whatever else is thrown has a message", () => {
    for (const thrown of ["gone", 7, null, Symbol("s")])
      expect(loggedError(thrown)).toEqual({ message: String(thrown) });
  });
});

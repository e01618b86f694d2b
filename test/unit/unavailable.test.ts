/** Proves what clients are told of what a request has failed with, and what is kept from them [ENV4]. */
import { expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import { refusalOf } from "../../src/router/refusals.ts";
import { DirectoryReadOnly } from "../../src/storage/directory-store.ts";

function told(error: unknown) {
  const faults: unknown[] = [];
  const payload = refusalOf(error, (fault) => faults.push(fault)).toPayload();
  return { payload, faults };
}

test("[ENV4] whatever is away is unavailable, to be tried again, in words that name nothing of ours", () => {
  for (const part of ["storage", "cluster", "auth"] as const) {
    const { payload, faults } = told(new Unavailable(part, "connect ECONNREFUSED 10.0.0.5:5432"));
    expect(payload).toEqual({
      code: "unavailable",
      message: expect.not.stringContaining("10.0.0.5"),
      retryable: true,
      retry_after_ms: 1_000,
    });
    expect(faults).toEqual([]);
  }
  const crowded = new Unavailable("cluster", "Too many questions are under way.", { isPublic: true });
  expect(told(crowded).payload.message).toBe("Too many questions are under way.");
});

test("[ENV4] a refusal is told as it is, and a fault is internal and for the log", () => {
  const refusal = new ProtocolError("conflict", "Something else was said.", { field: "payload.event_key" });
  expect(told(refusal).payload).toMatchObject({ code: "conflict", field: "payload.event_key" });
  expect(told(new DirectoryReadOnly("The application alone writes to it.")).payload).toEqual({
    code: "forbidden",
    message: "The application alone writes to it.",
    retryable: false,
  });
  const fault = new TypeError("undefined is not a function");
  expect(told(fault)).toMatchObject({ payload: { code: "internal" }, faults: [fault] });
});

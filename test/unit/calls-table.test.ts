/** Proves what every request of every device comes to in every state of a call [CALL1–CALL4]. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  a1,
  a2,
  active,
  answer,
  b1,
  b2,
  callBob,
  callId,
  eve,
  hangup,
  ice,
  openWorld,
  ringing,
  world,
} from "../support/call-scene.ts";
import { outcomeOf } from "../support/calls.ts";

beforeEach(() => openWorld());

describe("every state, request and device", () => {
  const states = {
    unknown: async () => {},
    ringing,
    connecting: async () => {
      await ringing();
      await answer();
    },
    active,
    ended: async () => {
      await ringing();
      await hangup();
    },
  };
  const requests = {
    offer: (from: typeof a1) => world.service.offer(from, { ...callBob, to_user_id: from === b1 ? "ann" : "bob" }),
    renegotiate: (from: typeof a1) => world.service.offer(from, { call_id: callId, sdp: "again" }),
    answer: (from: typeof a1) => answer(from, "another"),
    ice: (from: typeof a1) => ice(from, "c"),
    hangup: (from: typeof a1) => hangup(from),
  };
  const devices = { a1, a2, b1, b2, eve };
  const none = "call_not_found";
  const late = "call_already_answered";
  const alien = "not_a_party";
  const taken = "call_conflict";
  const over = "call_ended";
  type Row = Record<keyof typeof devices, string>;
  const answered: Record<keyof typeof requests, Row> = {
    offer: { a1: "ok", a2: taken, b1: taken, b2: taken, eve: taken },
    renegotiate: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
    answer: { a1: taken, a2: alien, b1: taken, b2: late, eve: alien },
    ice: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
    hangup: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
  };
  const table: Record<keyof typeof states, Record<keyof typeof requests, Row>> = {
    unknown: {
      offer: { a1: "ok", a2: "ok", b1: "ok", b2: "invalid_payload", eve: "ok" },
      renegotiate: { a1: none, a2: none, b1: none, b2: none, eve: none },
      answer: { a1: none, a2: none, b1: none, b2: none, eve: none },
      ice: { a1: none, a2: none, b1: none, b2: none, eve: none },
      hangup: { a1: none, a2: none, b1: none, b2: none, eve: none },
    },
    ringing: {
      offer: { a1: "ok", a2: taken, b1: taken, b2: "invalid_payload", eve: taken },
      renegotiate: { a1: taken, a2: alien, b1: taken, b2: taken, eve: alien },
      answer: { a1: alien, a2: alien, b1: "ok", b2: "ok", eve: alien },
      ice: { a1: "ok", a2: alien, b1: "ok", b2: "ok", eve: alien },
      hangup: { a1: "ok", a2: alien, b1: "ok", b2: "ok", eve: alien },
    },
    connecting: { ...answered, offer: { ...answered.offer, b2: "invalid_payload" } },
    active: { ...answered, offer: { ...answered.offer, b2: "invalid_payload" } },
    ended: {
      offer: { a1: over, a2: taken, b1: taken, b2: "invalid_payload", eve: taken },
      renegotiate: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      answer: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      ice: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      hangup: { a1: over, a2: over, b1: over, b2: over, eve: alien },
    },
  };
  for (const [state, rows] of Object.entries(table)) {
    test(`[CALL1] [CALL2] [CALL3] [CALL4] ${state}: every request of every device`, async () => {
      const found: typeof table.unknown = structuredClone(rows);
      for (const [name, request] of Object.entries(requests)) {
        for (const [device, from] of Object.entries(devices)) {
          openWorld();
          await states[state as keyof typeof states]();
          const before = await world.registry.get(callId);
          const outcome = await outcomeOf(request(from));
          found[name as keyof typeof requests][device as keyof typeof devices] = outcome;
          // A request that is refused has changed nothing.
          if (outcome !== "ok") expect(await world.registry.get(callId)).toEqual(before);
        }
      }
      expect(found).toEqual(rows);
    });
  }
});

/** Ann calls Bob: the devices and the steps that the calls' tests are told with. */
import type { Device } from "../../src/calls/record.ts";
import { type CallWorld, createCallWorld } from "./calls.ts";

export const a1 = { userId: "ann", deviceId: "a1" };
export const a2 = { userId: "ann", deviceId: "a2" };
export const b1 = { userId: "bob", deviceId: "b1" };
export const b2 = { userId: "bob", deviceId: "b2" };
export const b3 = { userId: "bob", deviceId: "b3" };
export const eve = { userId: "eve", deviceId: "e1" };
export const callId = "00000000-0000-4000-8000-000000000005";
export const lowerId = "00000000-0000-4000-8000-000000000001";
export const higherId = "00000000-0000-4000-8000-000000000009";
export const callBob = { call_id: callId, to_user_id: "bob", media: "audio", sdp: "offer" } as const;

/** The world that the test at hand plays in; every test opens its own. */
export let world: CallWorld;
export function openWorld(devices: Device[] = [a1, a2, b1, b2, eve]): void {
  world = createCallWorld(devices);
}

/** Tells what has been delivered since the last look: `<device> <type without "call."> [reason]`, and empties it. */
export function news(): string[] {
  return world.deliveries.splice(0).map(({ deviceId, type, payload }) => {
    const reason = "reason" in payload ? ` ${payload.reason}` : "";
    return `${deviceId} ${type.slice("call.".length)}${reason}`;
  });
}
export const answer = (from = b1, sdp = "answer") => world.service.answer(from, { call_id: callId, sdp });
export const ice = (from = a1, ...candidates: string[]) => world.service.ice(from, { call_id: callId, candidates });
export const hangup = (from = a1, reason?: "hangup" | "busy" | "declined" | "cancelled" | "ice_failed" | "error") =>
  world.service.hangup(from, { call_id: callId, reason });
export const ringing = () => world.service.offer(a1, callBob);
export async function active() {
  await ringing();
  await answer();
  await ice(a1, "c");
  news();
}

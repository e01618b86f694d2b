/** Handles the messages of calls: `call.offer`, `call.answer`, `call.ice`, `call.hangup` [CALL]. */
import { ack, type Handler } from "./context.ts";

export const offer: Handler<"call.offer", "calls"> = async ({ from, payload, services }) => {
  const { isBusy } = await services.calls.offer(from, payload);
  return isBusy ? { type: "ack", payload: { busy: true } } : ack;
};

export const answer: Handler<"call.answer", "calls"> = async ({ from, payload, services }) => {
  await services.calls.answer(from, payload);
  return ack;
};

export const ice: Handler<"call.ice", "calls"> = async ({ from, payload, services }) => {
  await services.calls.ice(from, payload);
  return ack;
};

export const hangup: Handler<"call.hangup", "calls"> = async ({ from, payload, services }) => {
  await services.calls.hangup(from, payload);
  return ack;
};

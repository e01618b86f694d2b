/** Carries the signals of calls between two users, and says how each call is [CALL1] [CALL4]. It carries no media. */
import type { Clock, Unlisten } from "../core.ts";
import type { ClientPayloads, ServerPayloads } from "../wire.ts";
import { type Connections, type FakeConnection, Refusal } from "./connections.ts";

/** Milliseconds [CALL5]. */
const ringsForMs = 60_000;

interface FakeCall {
  id: string;
  state: "ringing" | "connecting" | "active" | "ended";
  caller: Party;
  callee: Party;
  media: "audio" | "video";
  sdp: string;
  conversationId?: string;
  expiresAt: string;
  cancel: Unlisten;
  answeredAt?: number;
  /** Candidates of the caller, until somebody has answered [CALL3]. */
  waiting: ClientPayloads["call.ice"]["candidates"][];
}

/** One side: the device is null while it rings, or where the test speaks for the user. */
interface Party {
  userId: string;
  deviceId: string | null;
}

type EndReason = ServerPayloads["call.ended"]["reason"];

export class FakeCalls {
  readonly #calls = new Map<string, FakeCall>();

  constructor(
    private readonly connections: Connections,
    private readonly clock: Clock,
  ) {}

  /** Every call that the device is in or rings for [CALL7]. */
  of({ userId, deviceId }: { userId: string | null; deviceId: string }) {
    return [...this.#calls.values()].flatMap((call) => {
      const { id, state, media, caller, callee } = call;
      const isCaller = caller.userId === userId && caller.deviceId === deviceId;
      const isCallee = callee.userId === userId && [null, deviceId].includes(callee.deviceId);
      if (state === "ended" || !(isCaller || isCallee)) return [];
      const peer = isCaller ? callee : caller;
      return {
        ...{ call_id: id, state, media, peer_user_id: peer.userId },
        ...(peer.deviceId === null ? {} : { peer_device_id: peer.deviceId }),
        ...(call.conversationId === undefined ? {} : { conversation_id: call.conversationId }),
        ...(state === "ringing" ? { expires_at: call.expiresAt } : {}),
      };
    });
  }

  /** A device that comes while its user is called rings as well. */
  ringAgain(connection: FakeConnection): void {
    for (const call of this.#calls.values()) {
      if (call.state === "ringing" && call.callee.userId === connection.userId)
        connection.send("call.incoming", incoming(call));
    }
  }

  offer(from: Party, payload: ClientPayloads["call.offer"]): void {
    const known = this.#calls.get(payload.call_id);
    if (known !== undefined && known.state !== "ringing") return this.#renegotiate(known, from, payload);
    if (known !== undefined) return;
    const { call_id: id, to_user_id: to, media = "audio", sdp, conversation_id: conversationId } = payload;
    if (to === undefined) throw new Refusal("call_not_found");
    const call: FakeCall = {
      ...{ id, state: "ringing", media, sdp, conversationId, waiting: [] },
      ...{ caller: from, callee: { userId: to, deviceId: null } },
      expiresAt: new Date(this.clock.now() + ringsForMs).toISOString(),
      cancel: this.clock.after(ringsForMs, () => this.end(id, "timeout")),
    };
    this.#calls.set(id, call);
    for (const connection of this.connections.of(to)) connection.send("call.incoming", incoming(call));
  }

  answer(from: Party, { call_id: id, sdp }: ClientPayloads["call.answer"]): void {
    const call = this.#call(id);
    const isOfCallee = call.callee.userId === from.userId;
    if (call.state === "ringing") {
      if (!isOfCallee) throw new Refusal("not_a_party");
      call.cancel();
      Object.assign(call, { state: "connecting", callee: from, answeredAt: this.clock.now() });
      for (const connection of this.connections.of(from.userId)) {
        if (connection.deviceId !== from.deviceId)
          connection.send("call.ended", { call_id: id, reason: "answered_elsewhere" });
      }
    } else if (isOfCallee && call.callee.deviceId !== from.deviceId) throw new Refusal("call_already_answered");
    this.#toPeer(call, from, "call.answer", {
      call_id: id,
      from_user_id: from.userId,
      from_device_id: from.deviceId ?? "",
      sdp,
    });
    for (const candidates of call.waiting.splice(0))
      this.#toPeer(call, call.caller, "call.ice", { call_id: id, from_user_id: call.caller.userId, candidates });
  }

  ice(from: Party, { call_id: id, candidates }: ClientPayloads["call.ice"]): void {
    const call = this.#call(id);
    if (call.state === "ringing") call.waiting.push(candidates);
    else this.#toPeer(call, from, "call.ice", { call_id: id, from_user_id: from.userId, candidates });
    if (call.state === "connecting") call.state = "active";
  }

  hangUp(from: Party, { call_id: id, reason = "hangup" }: ClientPayloads["call.hangup"]): void {
    const call = this.#call(id);
    const isCaller = call.caller.userId === from.userId;
    const whileRinging = isCaller ? "cancelled" : reason === "busy" ? "busy" : "declined";
    this.end(id, call.state === "ringing" ? whileRinging : reason, from.userId);
  }

  /** @throws Refusal where it is over, or there is none */
  end(id: string, reason: EndReason, endedBy?: string): void {
    const call = this.#call(id);
    const { answeredAt } = call;
    call.cancel();
    const ended = {
      ...{ call_id: id, reason },
      ...(endedBy === undefined ? {} : { ended_by: endedBy }),
      ...(answeredAt === undefined ? {} : { duration_ms: this.clock.now() - answeredAt }),
    };
    const told = [call.caller, call.callee].flatMap((party) => this.#devicesOf(party));
    call.state = "ended";
    for (const connection of told) connection.send("call.ended", ended);
  }

  #renegotiate(call: FakeCall, from: Party, { sdp, media }: ClientPayloads["call.offer"]): void {
    if (call.state === "ended") throw new Refusal("call_ended");
    if (media !== undefined) call.media = media;
    call.state = "active";
    const named = media === undefined ? {} : { media };
    this.#toPeer(call, from, "call.offer", { call_id: call.id, from_user_id: from.userId, ...named, sdp });
  }

  #call(id: string): FakeCall {
    const call = this.#calls.get(id);
    if (call === undefined) throw new Refusal("call_not_found");
    if (call.state === "ended") throw new Refusal("call_ended");
    return call;
  }

  #devicesOf({ userId, deviceId }: Party): FakeConnection[] {
    return this.connections.of(userId).filter((it) => deviceId === null || it.deviceId === deviceId);
  }

  #toPeer<T extends "call.offer" | "call.answer" | "call.ice">(
    call: FakeCall,
    from: Party,
    type: T,
    payload: ServerPayloads[T],
  ): void {
    const peer = call.caller.userId === from.userId ? call.callee : call.caller;
    for (const connection of this.#devicesOf(peer)) connection.send(type, payload);
  }
}

const incoming = (call: FakeCall): ServerPayloads["call.incoming"] => ({
  ...{ call_id: call.id, from_user_id: call.caller.userId, from_device_id: call.caller.deviceId ?? "" },
  ...(call.conversationId === undefined ? {} : { conversation_id: call.conversationId }),
  ...{ media: call.media, sdp: call.sdp, expires_at: call.expiresAt },
});

/** Lists the handler of every message. */

import type { ClientMessageType } from "../protocol/client.ts";
import * as admin from "./admin.ts";
import * as adminData from "./admin-data.ts";
import * as adminDirectory from "./admin-directory.ts";
import * as adminSamples from "./admin-samples.ts";
import * as adminWatch from "./admin-watch.ts";
import * as calls from "./calls.ts";
import * as connection from "./connection.ts";
import type { Handler, Routes, Services } from "./context.ts";
import { sendEvent } from "./events.ts";
import { history } from "./history.ts";
import { members } from "./members.ts";
import * as messageChanges from "./message-changes.ts";
import * as messages from "./messages.ts";
import * as presence from "./presence.ts";
import { publish } from "./publish.ts";
import * as receipts from "./receipts.ts";
import * as subscriptions from "./subscriptions.ts";
import * as typing from "./typing.ts";

type Service = keyof Services;

/** Asks the storage when it is the user's turn; a connection that has gone by then is not answered. */
const inTurn =
  <Type extends ClientMessageType, Needs extends Service>(
    handler: Handler<Type, Needs>,
  ): Handler<Type, Needs | "questions"> =>
  (request) =>
    request.services.questions.ask(request.from, async () => handler(request));

/** Does the same for what is to take effect although its sender has gone since. */
const inTurnAnyhow =
  <Type extends ClientMessageType, Needs extends Service>(
    handler: Handler<Type, Needs>,
  ): Handler<Type, Needs | "questions"> =>
  (request) =>
    request.services.questions.ask({ userId: request.from.userId, isClosed: false }, async () => handler(request));

export const routes = {
  ping: connection.ping,
  authenticate: connection.authenticate,
  ack: connection.acknowledge,
  subscribe: subscriptions.subscribe,
  unsubscribe: subscriptions.unsubscribe,
  history,
  "message.send": messages.send,
  "message.edit": messageChanges.edit,
  "message.delete": messageChanges.remove,
  "reaction.add": messageChanges.addReaction,
  "reaction.remove": messageChanges.removeReaction,
  "event.send": sendEvent,
  members: inTurn(members),
  "mark.delivered": inTurnAnyhow(receipts.markDelivered),
  "mark.read": inTurnAnyhow(receipts.markRead),
  "presence.update": presence.update,
  "presence.query": inTurn(presence.query),
  "typing.start": typing.start,
  "typing.stop": typing.stop,
  "call.offer": calls.offer,
  "call.answer": calls.answer,
  "call.ice": calls.ice,
  "call.hangup": calls.hangup,
  publish,
  "admin.stats": admin.stats,
  "admin.samples": adminSamples.samples,
  "admin.connections": admin.connections,
  "admin.connection": admin.connection,
  "admin.watch": adminWatch.watch,
  "admin.unwatch": adminWatch.unwatch,
  "admin.disconnect": admin.disconnect,
  "admin.topics": admin.topics,
  "admin.topic": admin.topic,
  "admin.subscribe": admin.subscribe,
  "admin.unsubscribe": admin.unsubscribe,
  "admin.nodes": admin.nodes,
  "admin.block": admin.block,
  "admin.user": adminDirectory.user,
  "admin.members": adminDirectory.members,
  "admin.members.add": adminDirectory.addMembers,
  "admin.members.remove": adminDirectory.removeMembers,
  "admin.members.update": adminDirectory.updateMember,
  "admin.conversations.update": adminData.updateConversation,
  "admin.users.erase": adminData.eraseUser,
  "admin.users.erasure": adminData.erasure,
  "admin.users.upsert": adminDirectory.upsertUsers,
  "admin.users.disable": adminDirectory.disableUser,
} satisfies Routes;

/** Lists the sizes and counts that the wire contract fixes for everybody. */

export const protocolVersion = 1;
// By themselves for the client, which has a page load no more than it needs.
export const jsonSubprotocol = "ws-service.v1.json";
/** Bytes of one message of any type but those that carry what people or applications say (`ofAnySize`) [ENV6]. */
export const ordinaryMessageBytes = 64 * 1024;
/** Topics that one request may name. */
export const namesPerRequest = 1_000;

export const subprotocols = { json: jsonSubprotocol, protobuf: "ws-service.v1.protobuf" } as const;
export type WireFormat = keyof typeof subprotocols;

export const limits = {
  /** Bytes of one message before authentication [ENV6]. */
  unauthenticatedMessageBytes: 16 * 1024,
  ordinaryMessageBytes,
  jsonDepth: 32,
  /** Values of any kind in one message: reading a small one costs as much as a long text, and everybody waits for it [ENV6]. */
  jsonValues: 50_000,
  requestIdLength: 64,
  typeLength: 64,
  /** Of users, devices, conversations and whatever else applications name. */
  identifierLength: 128,
  topicLength: 300,
  cursorLength: 64,
  tokenLength: 8192,
  namesPerRequest,
  /** Of a `mark.*`. */
  receiptMessageIds: 500,
  /** Of a receipt, which everybody is sent. */
  toldMessageIds: 50,
  historyPage: 200,
  /** Of one reaction, in UTF-8. */
  reactionBytes: 64,
  /** Types that a page of history is asked for. */
  historyTypes: 20,
  /** Of one page of a conversation's members [MEM1]. */
  membersPage: 500,
  presenceQueryUsers: 500,
  /** Entries of one page of `admin.connections` and `admin.topics`. */
  adminPage: 500,
  /** Connections that one connection watches at once. */
  watches: 10,
  /** Of the text of a close frame. */
  closeReasonBytes: 123,
  /** Of 365 days each. */
  blockYears: 10,
  /** The shortest and the longest time that a conversation keeps its events [LOG9]. */
  retentionMinutesMin: 1,
  retentionDaysMax: 36_500,
  statusTextLength: 100,
  statusEmojiLength: 32,
  publishUsers: 1_000,
  iceCandidates: 32,
  iceCandidatesKept: 128,
  iceCandidateLength: 4096,
  sdpBytes: 64 * 1024,
  /** Bad messages within a minute that close the connection with 4001 [ENV4]. */
  badMessagesPerMinute: 10,
} as const;

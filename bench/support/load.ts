/**
 * A program of many clients of one contender: they connect, come back, and publish at a pace that nobody's slowness changes.
 * Every subscriber has to get every event once; a latency is counted from when its event was due, and from when it was sent.
 */
import { type DialectName, dialects, type Mode, type Places, type Speaker } from "./dialects.ts";
import { quantile } from "./statistics.ts";

export type Command =
  | { do: "connect"; as: Role; roles?: string[]; count: number; atOnce?: number; rooms?: Rooms; missed?: number }
  | { do: "publish"; mode: Mode; rooms: number; count: number; pace: Pace }
  | { do: "leave" };

type Connect = Command & { do: "connect" };
type Publish = Command & { do: "publish" };

export type Role = "subscriber" | "publisher";

/** So many rooms for each client; so many clients share theirs. */
export interface Rooms {
  each: number;
  size: number;
}

/** Either so many a second, some of them at once, or so many unanswered for each publisher. */
export type Pace = { perSecond: number; atOnce?: number } | { unanswered: number };

export interface Connected {
  tookMs: number;
  /** From its start until a client had its rooms, and all that it had missed. */
  ready: Latency;
  cpuSeconds: number;
}

export interface Published {
  delivered: number;
  tookMs: number;
  /** Of a delivery since its event was due, and since it was sent. */
  due: Latency;
  sent: Latency;
  /** Of a publisher's answer, since the publication was sent. */
  acked: Latency;
  /** How late this program was to send: what of `due` is its own. */
  late: Latency;
  frameBytes: number;
  cpuSeconds: number;
}

export interface Latency {
  p50Ms: number;
  p99Ms: number;
}

interface Client extends Speaker {
  socket: WebSocket;
  /** Events it got, and the sum of their numbers: what is missing, or came twice, shows in one of them. */
  events: number;
  numbers: number;
  /** When its publications were sent that nothing has answered. */
  unanswered: number[];
}

interface Given {
  port: number;
  dialect: DialectName;
  host?: string;
  /** Of its clients: those of another program before it have other names. */
  first?: number;
}

const { port, dialect: name, host = "127.0.0.1", first = 0 } = JSON.parse(process.argv[2]!) as Given;
const dialect = dialects[name];
const patienceMs = 20_000;
const contentBytes = 200;
const mark = "#S";
const markPattern = /#S(\d{8})D(\d{12})S(\d{12})/g;

const clients: Record<Role, Client[]> = { subscriber: [], publisher: [] };
const places: Places = new Map();
let publications = 0;
let delivered = 0;
let answered = 0;
let frameBytes = 0;
let latencies = { due: [] as number[], sent: [] as number[], acked: [] as number[], late: [] as number[] };
let onProgress: () => void = () => {};

const microseconds = () => Math.round(performance.now() * 1_000);
const padded = (value: number, digits: number) => String(value).padStart(digits, "0");
const latency = (values: number[]): Latency => ({
  p50Ms: quantile(values, 0.5) / 1_000,
  p99Ms: quantile(values, 0.99) / 1_000,
});

console.log(JSON.stringify({ ready: true }));
for await (const line of console) {
  const command = JSON.parse(line) as Command;
  const cpuBefore = process.cpuUsage();
  const result = await carryOut(command);
  const { user, system } = process.cpuUsage(cpuBefore);
  console.log(JSON.stringify({ ...result, cpuSeconds: (user + system) / 1e6 }));
}

async function carryOut(command: Command): Promise<object> {
  if (command.do === "connect") return connectAll(command);
  if (command.do === "publish") return publishAll(command);
  for (const { socket } of Object.values(clients).flat()) {
    socket.onclose = null;
    socket.close();
  }
  clients.subscriber = [];
  clients.publisher = [];
  return {};
}

async function connectAll(command: Connect) {
  const { as, count, atOnce = 64 } = command;
  const took: number[] = [];
  const startedAt = microseconds();
  let next = first + clients[as].length;
  const end = next + count;
  const connectSome = async () => {
    while (next < end) {
      const at = microseconds();
      clients[as].push(await connect(next++, command));
      took.push(microseconds() - at);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, connectSome));
  return { tookMs: (microseconds() - startedAt) / 1_000, ready: latency(took) };
}

function connect(index: number, { as, roles, rooms, missed }: Connect): Promise<Client> {
  const { promise, resolve, reject } = Promise.withResolvers<Client>();
  const group = rooms === undefined ? 0 : Math.floor(index / rooms.size);
  const client: Client = {
    user: `${as}-${index}`,
    roles,
    rooms: Array.from({ length: rooms?.each ?? 0 }, (_, room) => `r${group * rooms!.each + room}`),
    missed,
    isReady: false,
    events: 0,
    numbers: 0,
    unanswered: [],
    socket: null as unknown as WebSocket,
    send: (text) => client.socket.send(text),
    ready() {
      if (client.events !== (missed ?? 0)) return client.failed(`came back to ${client.events} events`);
      client.isReady = true;
      resolve(client);
    },
    acked() {
      answered++;
      latencies.acked.push(microseconds() - client.unanswered.shift()!);
      onProgress();
    },
    failed(why) {
      reject(new Error(`${name}, ${client.user}: ${why}`));
      // Later than while it connects, no one waits for the promise.
      if (client.isReady) throw new Error(`${name}, ${client.user}: ${why}`);
    },
  };
  const { path, headers } = dialect.address(client, places);
  const socket = new WebSocket(`ws://${host}:${port}${path}`, { headers });
  client.socket = socket;
  socket.onopen = () => dialect.opened(client, places);
  socket.onmessage = ({ data }) => {
    const text = data as string;
    if (text.includes(mark)) countEvents(client, text);
    dialect.read(text, client, places);
  };
  socket.onclose = ({ code, reason }) => client.failed(`closed: ${code} ${reason}`);
  return promise;
}

function countEvents(client: Client, text: string): void {
  const at = microseconds();
  frameBytes = text.length;
  // A frame may hold several.
  for (const [, number, due, sent] of text.matchAll(markPattern)) {
    client.events++;
    client.numbers += Number(number);
    delivered++;
    latencies.due.push(at - Number(due));
    latencies.sent.push(at - Number(sent));
  }
  onProgress();
}

async function publishAll(command: Publish): Promise<Omit<Published, "cpuSeconds">> {
  latencies = { due: [], sent: [], acked: [], late: [] };
  delivered = answered = 0;
  for (const each of clients.subscriber) each.events = each.numbers = 0;
  const hearers = new Map<string, number>();
  for (const room of clients.subscriber.flatMap(({ rooms }) => rooms)) hearers.set(room, (hearers.get(room) ?? 0) + 1);
  const published = new Map<string, { events: number; numbers: number }>();
  let expected = 0;
  const startedAt = microseconds();
  const publishOne = (nth: number, publisher: Client, due: number) => {
    const [id, room] = [++publications, `r${nth % command.rooms}`];
    const { events, numbers } = published.get(room) ?? { events: 0, numbers: 0 };
    published.set(room, { events: events + 1, numbers: numbers + id });
    expected += hearers.get(room) ?? 0;
    const sent = microseconds();
    latencies.late.push(sent - due);
    publisher.unanswered.push(sent);
    const text = `${mark}${padded(id, 8)}D${padded(due, 12)}S${padded(sent, 12)}`.padEnd(contentBytes, "lorem ipsum ");
    const said = dialect.publish({ mode: command.mode, room, id, text });
    if (dialect.postsTo === undefined) publisher.send(said);
    else void post(said, publisher);
  };
  await keepPace(command, publishOne);
  await progressUntil(() => answered >= command.count && delivered >= expected);
  const tookMs = (microseconds() - startedAt) / 1_000;
  checkDelivered(published);
  const { due, sent, acked, late } = latencies;
  return {
    delivered,
    tookMs,
    due: latency(due),
    sent: latency(sent),
    acked: latency(acked),
    late: latency(late),
    frameBytes,
  };
}

async function post(body: string, { acked, failed }: Client): Promise<void> {
  const { ok, status } = await fetch(`http://127.0.0.1:${port}${dialect.postsTo}`, { method: "POST", body });
  if (ok) acked();
  else failed(`answered ${status}`);
}

/** Sends at the moments that are due, however many are unanswered; or, where that is the pace, as answers come. */
async function keepPace(
  { count, pace }: Publish,
  publishOne: (nth: number, publisher: Client, due: number) => void,
): Promise<void> {
  const publishers = clients.publisher;
  let nth = 0;
  if ("unanswered" in pace) {
    const sendMore = () => {
      for (const each of publishers)
        while (each.unanswered.length < pace.unanswered && nth < count) publishOne(nth++, each, microseconds());
    };
    sendMore();
    await progressUntil(() => {
      sendMore();
      return nth === count;
    });
    return;
  }
  const { perSecond, atOnce = 1 } = pace;
  const startedAt = microseconds();
  while (nth < count) {
    const due = startedAt + (Math.floor(nth / atOnce) * atOnce * 1e6) / perSecond;
    const early = due - microseconds();
    if (early > 0) await Bun.sleep(early / 1_000);
    else publishOne(nth, publishers[nth++ % publishers.length]!, Math.round(due));
  }
}

/** Waits for events and answers until they are enough. */
function progressUntil(isEnough: () => boolean): Promise<void> {
  if (isEnough()) return Promise.resolve();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => reject(new Error(`${name}: ${delivered} events and ${answered} answers came, no more`)),
    patienceMs,
  );
  onProgress = () => {
    if (!isEnough()) return void timer.refresh();
    clearTimeout(timer);
    onProgress = () => {};
    resolve();
  };
  return promise;
}

function checkDelivered(published: Map<string, { events: number; numbers: number }>): void {
  for (const { user, rooms, events, numbers } of clients.subscriber) {
    const own = rooms.flatMap((room) => published.get(room) ?? []);
    const sum = (of: "events" | "numbers") => own.reduce((all, each) => all + each[of], 0);
    if (events !== sum("events") || numbers !== sum("numbers"))
      throw new Error(`${name}: ${user} got ${events} of ${sum("events")} events, or others than those`);
  }
}

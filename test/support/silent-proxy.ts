/** A TCP proxy that can fall silent as a broken network does: connections stay open, and nothing goes through any more. */
import type { Socket } from "bun";
import { freePorts } from "./free-ports.ts";

interface Peer {
  other: Socket<Peer> | null;
  waiting: Uint8Array[];
  isSilent: boolean;
}

export interface SilentProxy {
  port: number;
  /** From now on the connections that are there carry nothing; new ones do. */
  silence(): void;
  stop(): void;
}

export async function startSilentProxy(target: { hostname: string; port: number }): Promise<SilentProxy> {
  const peers = new Set<Peer>();
  const [port] = await freePorts(1);
  const pass = (socket: Socket<Peer>, chunk: Uint8Array) => {
    const { data } = socket;
    if (data.isSilent) return;
    if (data.other) data.other.write(chunk);
    else data.waiting.push(chunk.slice());
  };
  const newPeer = (): Peer => {
    const peer: Peer = { other: null, waiting: [], isSilent: false };
    peers.add(peer);
    return peer;
  };
  const close = (socket: Socket<Peer>) => {
    peers.delete(socket.data);
    if (!socket.data.isSilent) socket.data.other?.end();
  };
  const listener = Bun.listen<Peer>({
    hostname: "127.0.0.1",
    port: port!,
    socket: {
      async open(client) {
        client.data = newPeer();
        const server = await Bun.connect<Peer>({ ...target, data: newPeer(), socket: { data: pass, close } });
        server.data.other = client;
        client.data.other = server;
        for (const chunk of client.data.waiting.splice(0)) server.write(chunk);
      },
      data: pass,
      close,
    },
  });
  return {
    port: port!,
    silence() {
      for (const peer of peers) peer.isSilent = true;
    },
    stop: () => listener.stop(true),
  };
}

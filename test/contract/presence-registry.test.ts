/** Runs the presence registry's contract on the one of a node that is alone. */
import { createLocalPresenceRegistry } from "../../src/cluster/local/presence.ts";
import { describePresenceRegistryContract } from "./presence-registry.ts";

describePresenceRegistryContract("local", async () => {
  const registry = createLocalPresenceRegistry();
  return { nodes: { one: registry, other: registry }, close: async () => {} };
});

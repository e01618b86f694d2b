/** Runs the presence registry's contract on the one of a node that is alone. */
import { LocalPresenceRegistry } from "../../src/cluster/local/presence-registry.ts";
import { describePresenceRegistryContract } from "./presence-registry.ts";

describePresenceRegistryContract("local", async () => {
  const registry = new LocalPresenceRegistry({ run: "local/1", now: Date.now });
  const node = { registry, watch: async () => {} };
  return { nodes: { one: node, other: node }, close: async () => {} };
});

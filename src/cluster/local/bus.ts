/** Stands for the bus of a node that is alone: there are no others to tell or to hear. */
import type { Bus } from "../ports.ts";

export function createLocalBus(): Bus {
  return {
    publish() {},
    broadcast() {},
    watch: () => null,
    sweep() {},
    onTopicMessage() {},
    onControlMessage() {},
    onGap() {},
  };
}

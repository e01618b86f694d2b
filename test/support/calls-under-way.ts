/** Knows which calls of a port have not been answered yet, so that a test can wait for all of them. */

export interface CallsUnderWay {
  /** The same object, with its asynchronous methods counted; `before` is run first, and its rejection is the call's. */
  counted<Port extends object>(port: Port, before?: (method: string) => Promise<void>): Port;
  /** Resolves when no call is under way and none has followed from the last answer. */
  settled(): Promise<void>;
}

export function createCallsUnderWay(): CallsUnderWay {
  const underWay = new Set<Promise<unknown>>();

  function count<Result>(call: Promise<Result>): Promise<Result> {
    const ended = call.then(
      () => {},
      () => {},
    );
    underWay.add(ended);
    void ended.then(() => underWay.delete(ended));
    return call;
  }

  return {
    counted: (port, before = async () => {}) =>
      new Proxy(port, {
        get(target, name) {
          const method: unknown = Reflect.get(target, name);
          if (typeof method !== "function") return method;
          return (...given: unknown[]) => count(before(String(name)).then(() => method.apply(target, given)));
        },
      }),
    async settled() {
      do {
        await Promise.all(underWay);
        // A turn of the loop runs every promise that waits for nothing but another one.
        await new Promise<void>((resolve) => setImmediate(resolve));
      } while (underWay.size > 0);
    },
  };
}

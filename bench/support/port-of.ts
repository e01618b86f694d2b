/** Reads where a service listens, by what it logs. */
export function portOf(stream: ReadableStream<Uint8Array>): Promise<number> {
  const { promise, resolve: found } = Promise.withResolvers<number>();
  void (async () => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (text.length < 65_536) text += decoder.decode(chunk, { stream: true });
      const port = /"url":"ws:\/\/[^:]+:(\d+)\//.exec(text)?.[1];
      if (port !== undefined) found(Number(port));
    }
  })();
  return promise;
}

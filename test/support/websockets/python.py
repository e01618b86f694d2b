# Python's `websockets` as a program: sends the frames of its input, and says what it has agreed on and what comes, a line of JSON each.
import asyncio
import base64
import json
import sys

import websockets


def say(line):
    print(json.dumps(line), flush=True)


async def send_all(socket):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        frame = json.loads(line)
        data = base64.b64decode(frame["data"])
        await socket.send(data if frame["binary"] else data.decode())


async def main(url, subprotocol):
    async with websockets.connect(url, subprotocols=[subprotocol]) as socket:
        # Where older versions keep them.
        extensions = getattr(socket, "protocol", socket).extensions
        say({"extensions": [extension.name for extension in extensions]})
        sending = asyncio.create_task(send_all(socket))
        async for message in socket:
            binary = isinstance(message, bytes)
            data = message if binary else message.encode()
            say({"data": base64.b64encode(data).decode(), "binary": binary})
        sending.cancel()


asyncio.run(main(*sys.argv[1:]))

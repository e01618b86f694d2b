# The Python client as a program: does what its input says, a line of JSON each, and says what it hears.
import asyncio
import json
import os
import sys
import urllib.request

sys.path.insert(0, sys.argv[1])
from ws_service import Client, Closed, ServerError  # noqa: E402


def say(**line):
    print(json.dumps(line), flush=True)


async def answer(client, command):
    try:
        if "send" in command:
            reply = await client.send(*command["send"], client_message_id=command.get("key"))
        elif "ack" in command:
            reply = await client.ack()
        else:
            reply = await client.request(*command["request"])
        say(answer=command["n"], payload=reply)
    except ServerError as error:
        say(answer=command["n"], code=error.code, field=error.field)
    except Closed as closed:
        say(answer=command["n"], closed=str(closed))


async def obey(client):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asyncio.ensure_future(answer(client, json.loads(line)))


async def main(options):
    if "token_url" in options:
        url = options.pop("token_url")
        options["token"] = lambda: urllib.request.urlopen(url).read().decode()
    async with Client(**options) as client:
        say(live=True, extensions=client.extensions, device_id=client.device_id)
        obeying = asyncio.ensure_future(obey(client))
        try:
            async for event in client:
                say(event=event.type, payload=event.payload, topic=event.topic, seq=event.seq, cursor=client.cursor)
        finally:
            obeying.cancel()


async def run():
    try:
        await main(json.loads(sys.argv[2]))
    except Closed as closed:
        say(closed=str(closed), code=closed.code)
    # The thread that waits for input would be waited for.
    os._exit(0)


asyncio.run(run())

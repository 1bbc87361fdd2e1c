"""The application's own server, as far as the first chat needs it: whoever is logged in gets a credential.

    OPERATOR_TOKEN=... application_server.py --for-clients http://198.51.100.7:9641 alice:LOGIN bob:LOGIN

A chat has a server that knows its users; these few lines are what it needs besides. The operator's token
stays here: who has it may do everything at the relay, while a credential relays for one user and an hour.
"""

import argparse
import os

from aiohttp import ClientError, ClientSession, web


class RelayAccess:
    """POST /relay-access: a credential of the relay for the user of the session."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._names = {login: name for name, _, login in (user.partition(":") for user in given.users)}
        self._token = os.environ["OPERATOR_TOKEN"]

    async def post(self, request: web.Request) -> web.Response:
        login = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if login not in self._names:
            raise web.HTTPUnauthorized(text="log in first")
        wanted = {"name": self._names[login], "ttl": self._given.ttl}
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with (
                ClientSession(headers=headers) as relay,
                relay.post(f"{self._given.relay}/v1/credentials", json=wanted) as answer,
            ):
                answer.raise_for_status()
                credential = await answer.json()
        except ClientError as error:
            raise web.HTTPBadGateway(text=f"the relay gives no credential: {error}") from error
        print(f"{wanted['name']} has a credential for {wanted['ttl']} s", flush=True)
        return web.json_response(
            {**credential, "relay": self._given.for_clients}, headers={"Cache-Control": "no-store"}
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--relay", default="http://127.0.0.1:9641", help="the relay's HTTP side, from here")
    parser.add_argument("--for-clients", metavar="URL", required=True, help="the same, as clients reach it")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--ttl", type=int, default=3600, help="seconds that a credential is good for")
    parser.add_argument("users", nargs="+", metavar="NAME:LOGIN")
    given = parser.parse_args()
    application = web.Application()
    application.add_routes([web.post("/relay-access", RelayAccess(given).post)])
    web.run_app(application, port=given.port)


main()

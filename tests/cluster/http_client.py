"""The contract (docs/protocol.md) by way of the HTTP door, for who otherwise has a harness.Client."""

import base64

from http_door import Http


class HttpClient:
    """As harness.Client: `ask` answers [error, result]; what gets lost is an OSError or an http.client.HTTPException. All text comes
    back as bytes, a status, too."""

    def __init__(self, address, timeout_ms):
        self.address = address
        self.http = Http(address, timeout_s=timeout_ms / 1000)

    def ask(self, method, *params, timeout_ms, id=None, atomic=False):
        if method == "batch":
            body = {"commands": [command_of(*command) for command in params], "atomic": atomic}
        else:
            body = {"command": command_of(method, params)}
        named = {} if id is None else {"Idempotency_Key": id}
        answer = self.http.post(body, f"?timeout_ms={timeout_ms}", **named)
        if answer.status != 200:
            return [answer.code, answer.json["detail"]], None
        if method == "batch":
            return None, [[one.get("error"), in_bytes(one.get("result"))] for one in answer.json["results"]]
        return None, in_bytes(answer.json["result"])

    def close(self):
        self.http.close()


def command_of(method, params):
    return [method, *map(in_text, params)]


def in_text(argument):
    if isinstance(argument, list):
        return [in_text(one) for one in argument]
    return argument.decode() if isinstance(argument, bytes) else argument


def in_bytes(result):
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, list):
        return [in_bytes(one) for one in result]
    if isinstance(result, dict):
        if set(result) == {"base64"}:
            return base64.b64decode(result["base64"])
        return {in_bytes(name): in_bytes(value) for name, value in result.items()}
    return result

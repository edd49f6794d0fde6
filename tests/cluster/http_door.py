"""A client of the gateway's HTTP door, which holds every answer against the OpenAPI document."""

import base64
import http.client
import json
import re
import urllib.parse

import jsonschema

from harness import PATIENCE_S, ROOT

DOCUMENT = json.loads((ROOT / "gateway" / "openapi.json").read_text())
# What any resource may answer, and the document does not repeat at each.
ANYWHERE = {404, 405, 414, 431}


def follow(node):
    """What the document says there, or at the place that it names there."""
    while "$ref" in node:
        steps, node = node["$ref"].removeprefix("#/").split("/"), DOCUMENT
        for step in steps:
            node = node[step]
    return node


def check_schema(value, schema):
    """The components are reached from the schema as in the document."""
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def operation_of(method, target):
    path = target.split("?")[0]
    for template, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", ".*", template), path, re.S):
            return item.get(method.lower())
    return None


def check_answer(method, target, answer):
    """It is one that the document knows."""
    operation = operation_of(method, target)
    if operation is None:
        assert answer.status in (*ANYWHERE, 401, 403, 421), answer
        return
    known = operation["responses"]
    if str(answer.status) not in known and answer.status in ANYWHERE:
        return
    described = follow(known.get(str(answer.status)) or known["default"])
    for name, header in described.get("headers", {}).items():
        if name in answer.headers:
            text = answer.headers[name]
            check_schema(int(text) if follow(header)["schema"]["type"] == "integer" else text, follow(header)["schema"])
    if method == "HEAD":
        assert answer.body == b""
        return
    content = described.get("content", {})
    if not content:
        assert answer.body == b"" and "Content-Type" not in answer.headers, answer
        return
    media = answer.headers["Content-Type"]
    assert media in content, (media, answer)
    if media.endswith("json"):
        check_schema(answer.json, content[media]["schema"])


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def etag(self):
        return self.headers["ETag"]

    @property
    def code(self):
        """Of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status and problem["type"] == f"urn:skerry:error:{problem['code']}"
        return problem["code"]

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:300]!r}"


class Http:
    """One connection, which is kept; calls answer an Answer."""

    def __init__(self, address, context=None, headers=None, timeout_s=PATIENCE_S):
        place = urllib.parse.urlsplit(address)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        more = {"context": context} if place.scheme == "https" else {}
        self.connection = kind(place.hostname, place.port, timeout=timeout_s, **more)
        self.headers = headers or {}

    def __call__(self, method, target, body=None, **headers):
        """Names of headers have _ where - stands."""
        shown = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.connection.request(method, target, body, shown)
        answer = Answer(self.connection.getresponse())
        check_answer(method, target, answer)
        return answer

    def get(self, key, **headers):
        return self("GET", target_of(key), **headers)

    def put(self, key, value, query="", **headers):
        return self("PUT", target_of(key) + query, value, **headers)

    def delete(self, key, **headers):
        return self("DELETE", target_of(key), **headers)

    def post(self, body, query="", **headers):
        headers = {"Content_Type": "application/json", **headers}
        return self("POST", "/v1/commands" + query, body if isinstance(body, (bytes, str)) else json.dumps(body), **headers)

    def run(self, *command, **headers):
        """The result of one command, which succeeds."""
        answer = self.post({"command": command}, **headers)
        assert answer.status == 200, answer
        return answer.json["result"]

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def target_of(key):
    return "/v1/keys/" + urllib.parse.quote(key, safe="")


def in_base64(content):
    return {"base64": base64.b64encode(content).decode()}


def door_of(cluster, **options):
    return Http(cluster.gateway.flag("--http-listen"), **options)

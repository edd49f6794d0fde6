"""Chromium without a window, by its own protocol over a pipe: nothing is needed for it but the browser."""

import base64
import fcntl
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading

from harness import PATIENCE_S

PROGRAM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--remote-debugging-pipe"]
HIGH = 100  # descriptors that are surely neither 3 nor 4


class Browser:
    """One browser with one tab. Messages are JSON, each ended by a zero byte: commands go to its descriptor 3, answers and
    events come from its 4."""

    def __init__(self, directory):
        theirs, self.commands = os.pipe()
        self.answers, theirs_too = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for fd in (theirs, theirs_too)]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", PROGRAM, *FLAGS, f"--user-data-dir={directory}/profile"],
            pass_fds=high, env={**os.environ, "HOME": str(directory)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in (theirs, theirs_too, *high):
            os.close(fd)
        self.numbers = itertools.count(1)
        self.replies = queue.Queue()
        self.session = None
        self.errors = []  # what the console shows as an error: the page's own, what was not loaded, what its policy forbids
        self.requests = []  # URLs that were asked for
        threading.Thread(target=self.read, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def read(self):
        rest = b""
        while piece := os.read(self.answers, 1 << 16):
            *messages, rest = (rest + piece).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.replies.put(message)
                else:
                    self.on_event(message["method"], message.get("params", {}))

    def on_event(self, name, event):
        if name == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(event["exceptionDetails"]["exception"].get("description", event["exceptionDetails"]["text"]))
        elif name == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning"):
            self.errors.append(str(event["args"]))
        elif name == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(event["entry"]["text"])

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (reply := self.replies.get(timeout=PATIENCE_S))["id"] != number:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def resize(self, width, height, dark=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def run(self, script):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, selector):
        return self.run(f"(document.querySelector({json.dumps(selector)}) || {{textContent: ''}}).textContent")

    def picture(self, whole=True):
        """PNG of the whole page, or of what is in view."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(PATIENCE_S)
        os.close(self.commands)

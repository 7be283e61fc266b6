"""A browser without a screen: cookies, an Origin, and nothing followed unasked."""

import http.client
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from tests.page.stand import PASSWORD, Stand


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Visitor:
    """Asks the page of `stand` as a browser at http://edge.local would."""

    def __init__(self, stand: Stand, address: str = "127.0.0.1") -> None:
        """`address`: from where it comes; all of 127.0.0.0/8 is this machine."""
        self._port = stand.port
        self._address = address
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        own = {"origin": "http://edge.local", "content-type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, urlencode(form or {}).encode(), own | headers)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        sent = {"host": "edge.local", "accept": "text/html"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=20, source_address=(self._address, 0)
        )
        try:
            connection.request(method, path, body, {k: v for k, v in sent.items() if v})
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    self.cookies[key] = morsel.value
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, text)

    def claim(self, password: str = PASSWORD, **more: str) -> Answer:
        return self.post("/claim", {"password": password, **more})

    def log_in(self, password: str = PASSWORD) -> Answer:
        return self.post("/log-in", {"password": password})

"""Published files on a server of this machine, which misbehaves in every usual way when asked to."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``files`` (content by the end of a path) while a ``with`` block lasts.

    ``moods`` (one an answer, then none) are cut, whole, busy, silent: see Handler.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.moods, self.asked = {}, [], []
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *problem):
        self.shutdown()
        self.server_close()

    def sums(self) -> dict[str, str]:
        """MD5 of every file, in hexadecimal."""
        return {name: hashlib.md5(content).hexdigest() for name, content in self.files.items()}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = next((name for name in self.server.files if self.path.endswith(f"/{name}")), self.path.rsplit("/", 1)[1])
        mood = self.server.moods.pop(0) if self.server.moods else ""
        asked = self.headers.get("Range", "")
        self.server.asked.append((name, asked))
        content = self.server.files.get(name)
        if mood == "silent":
            return  # closes the connection without a word
        if content is None or mood == "busy":
            self.send_error(503 if content else 404)
            return
        start = int(asked[6:-1]) if asked and mood != "whole" else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if mood == "cut" else rest)

    def log_message(self, *arguments):
        """Keeps quiet."""

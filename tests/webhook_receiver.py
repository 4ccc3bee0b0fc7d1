"""A webhook receiver as a process of its own: `python webhook_receiver.py PORT FILE [CODE ...]`.

Appends each request as one JSON line to FILE; answers with the given codes in turn, then 200.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

CODES = [int(code) for code in sys.argv[3:]]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        code = CODES.pop(0) if CODES else 200
        with open(sys.argv[2], "a") as file:
            file.write(json.dumps({"path": self.path, "code": code, "body": json.loads(body),
                                   "authorization": self.headers.get("authorization", "")}) + "\n")
        self.send_response(code)
        if code == 429:
            self.send_header("retry-after", "1")
        if code == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

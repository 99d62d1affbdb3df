"""Writes a history down: one JSON object a line, in the order in which things were known."""
import asyncio
import json


class Recorder:
    def __init__(self, path):
        self.path = path
        self.lines = []
        self.counts = {"op": 0, "ev": 0, "wit": 0}
        self.zero = asyncio.get_running_loop().time()

    def now(self):
        return round(asyncio.get_running_loop().time() - self.zero, 6)

    def add(self, kind, **fields):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.lines.append(json.dumps({"k": kind, **fields}, ensure_ascii=False))

    def save(self):
        with open(self.path, "w") as out:
            out.write("\n".join(self.lines) + "\n")

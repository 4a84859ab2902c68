"""A reward for `learning.py`: which share of the name, age and city in a completion's JSON is right.

Reads a line of {prompt, completion, row} after another and answers each with {reward}.
"""

import json
import re
import sys

KEYS = ("name", "age", "city")


def document(text: str) -> dict:
    """The JSON object that is the whole text, or all of its only fenced block; an empty one if there is none."""
    fences = list(re.finditer(r"^[ \t]*```(.*)$", text, re.MULTILINE))
    labels = [fence[1].strip().lower() for fence in fences]
    if len(fences) == 2 and labels[0] in ("", "json") and labels[1] == "":
        text = text[fences[0].end() : fences[1].start()]
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reward(completion: str, row: dict) -> float:
    found = document(completion)
    return sum(found.get(key) == row[key] for key in KEYS) / len(KEYS)


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"reward": reward(asked["completion"], asked["row"])}), flush=True)


if __name__ == "__main__":
    main()

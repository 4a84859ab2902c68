"""A reward for `learning.py`: which share of the name, age and city in a completion's JSON is right.

Reads a line of {prompt, completion, row} after another and answers each with {reward}.
"""

import json
import re
import sys

KEYS = ("name", "age", "city")


def document(text: str) -> dict:
    """The JSON object that is the whole text, or its only fenced block; an empty one if there is none."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n([^`]*)```\s*", text)
    try:
        found = json.loads(fenced[1] if fenced else text)
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

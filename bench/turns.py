"""What the benchmarks share: rows from files, processes measured one after the other, and their comparison.

Each run is a process of its own; its first step is a warm-up and is not counted.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass
class Run:
    """What one process did; steps are (seconds since the start, tokens since the start) after each step."""

    steps: list[tuple[float, int]]
    first_loss: float
    peak_bytes: int
    extra_seconds: float = 0.0
    """Seconds of work outside the steps that is counted all the same."""

    @property
    def tokens_per_second(self) -> float:
        (start, before), (end, after) = self.steps[0], self.steps[-1]
        return (after - before) / (end - start + self.extra_seconds)

    def __str__(self) -> str:
        return f"{self.tokens_per_second:>9.1f} {self.peak_bytes / 1e9:>8.2f} {self.first_loss:>11.4f}"


def add_sides(parser: argparse.ArgumentParser) -> None:
    """What both sides of every training have."""
    parser.add_argument("model", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())


def add_arguments(parser: argparse.ArgumentParser, rows: int, batch: int) -> None:
    """The arguments of the trainings on written answers."""
    add_sides(parser)
    parser.add_argument("--rows", type=int, default=rows, help="rows of one pass")
    parser.add_argument("--batch", type=int, default=batch, help="rows of a step")
    parser.add_argument("--group-by-length", action="store_true", help="let TRL put rows of like length together")


def read_rows(source: Path) -> list[dict]:
    """The rows of a JSON array or of JSON lines, gzip'd or not."""
    text = (gzip.open if source.suffix == ".gz" else open)(source, "rt", encoding="utf-8").read()
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def write_rows(rows: list[dict], source: Path, count: int, target: Path) -> None:
    """Writes the first rows for both sides."""
    if len(rows) < count:
        sys.exit(f"{source} has {len(rows)} rows, --rows asks for {count}")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:count])
    target.write_text("".join(lines), encoding="utf-8")


def settings_words(settings: dict) -> list[str]:
    """Settings as collimate's command line takes them."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def run(command: list[str], log: Path, **environment: str) -> int:
    """Runs a process, its output in `log`; the most memory that it held, in bytes."""
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def train(command: list[str], metrics: Path, **environment: str) -> tuple[list[dict], int]:
    """Runs a training: what it logged after each step, and the most memory that it held, in bytes."""
    peak = run(command, metrics.parent.with_suffix(".log"), **environment)
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    records = [record for record in records if "loss" in record]
    if len(records) < 2:
        sys.exit(f"{len(records)} steps are too few to time: the first is a warm-up; ask for more")
    return records, peak


def measure(command: list[str], metrics: Path, **environment: str) -> Run:
    """Runs a training whose tokens count."""
    records, peak = train(command, metrics, **environment)
    steps = [(record["seconds"], record["num_tokens"]) for record in records]
    return Run(steps, records[0]["loss"], peak)


def compare(ours: list[Run], peer: list[Run]) -> str:
    """The medians, over the rounds, of the ratios within a round."""
    pairs = list(zip(ours, peer, strict=True))
    speed = median(one.tokens_per_second / other.tokens_per_second for one, other in pairs)
    memory = median(one.peak_bytes / other.peak_bytes for one, other in pairs)
    return f"{speed:.2f} times the tokens/s, {memory:.2f} of the peak memory"

"""Holds `collimate model plan --workers` against trainings by several processes of one machine.

Each setting is planned and trained with each number of workers, for a few steps on rows of exactly the planned lengths;
a run's first step is a warm-up and is not counted, and the median of the rounds counts. The cores are shared out as
`model plan` does it: each process has its part of them, and at least one thread. The time of a step must be within 15 %
of the plan's, or the benchmark fails. The binary is one with the feature `mpi`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from plan import row
from turns import settings_words, train

TOLERANCE = 0.15

# Each by what it differs from `COMMON` in; `length` is that of a prompt with one answer, half of it the answer.
SETTINGS = {
    "LoRA, SFT": {},
    "LoRA, DPO": {"method": "dpo", "max_tokens_per_micro_batch": 384},
    "all weights, SFT": {"full": "true"},
}

COMMON = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "max_tokens_per_micro_batch": 256}
LENGTH = 256


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary, built with the feature mpi")
    parser.add_argument("--mpirun", default="mpirun --oversubscribe --bind-to none", help="what starts several processes")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="the settings whose names begin so")
    return parser.parse_args()


def measured(arguments: argparse.Namespace, method: str, settings: dict, workers: int) -> tuple[float, float]:
    """Seconds of a step, and the share of it that the leader spent on others."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    with tempfile.TemporaryDirectory() as folder:
        output, data = Path(folder, "output"), Path(folder, "rows.jsonl")
        rows = (row(method, LENGTH, number) for number in range(2 * settings["per_device_train_batch_size"]))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        more = {"dataset": data, "output_dir": output, "logging_steps": 1, "max_steps": arguments.steps}
        start = [] if workers == 1 else shlex.split(arguments.mpirun) + ["-n", str(workers)]
        command = start + [arguments.collimate, "train", method, "--threads", str(threads)]
        cache = {"COLLIMATE_CACHE": str(Path(folder, "cache"))}
        records, _ = train(command + settings_words(settings | more), output / "metrics.jsonl", **cache)
    steps = [after["seconds"] - before["seconds"] for before, after in zip(records, records[1:])]
    exchange = [record.get("exchange_seconds", 0.0) for record in records[1:]]
    return median(steps), median(exchange) / median(steps)


def planned(arguments: argparse.Namespace, method: str, settings: dict, workers: int) -> float:
    """Seconds of a step that are planned for so many workers."""
    command = [arguments.collimate, "model", "plan", "--json", "--workers", str(workers)]
    words = settings_words({"method": method, **settings})
    found = json.loads(subprocess.run(command + words, check=True, capture_output=True, text=True).stdout)
    return found["workers"]["scaled"][-1]["seconds_per_step"]


def main() -> None:
    arguments = parse_arguments()
    worst = 0.0
    print(f"{'setting':<18} {'workers':>7} {'planned s':>9} {'s a step':>9} {'':>7} {'efficiency':>10} {'exchange':>8}")
    for name, own in SETTINGS.items():
        if arguments.only and not name.startswith(arguments.only):
            continue
        settings = COMMON | {"model_name_or_path": arguments.model, "max_length": LENGTH} | own
        method = settings.pop("method", "sft")
        alone = None
        for workers in arguments.workers:
            rounds = [measured(arguments, method, settings, workers) for _ in range(arguments.rounds)]
            seconds, exchange = (median(values) for values in zip(*rounds))
            alone = alone or seconds
            expected = planned(arguments, method, settings, workers)
            worst = max(worst, abs(expected / seconds - 1))
            print(f"{name:<18} {workers:>7} {expected:>9.3f} {seconds:>9.3f} {expected / seconds - 1:>+7.1%} "
                  f"{alone / seconds:>10.1%} {exchange:>8.1%}", flush=True)
    if worst > TOLERANCE:
        sys.exit(f"a plan is {worst:.1%} off, allowed are {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()

"""Runs TRL SFT and `collimate train sft` in turn on the same rows and prints tokens/s, peak memory and the ratio.

Each run is a process of its own that makes one pass over the first rows; its first step is a warm-up and is not
counted. Tokens are real tokens: no padding.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PEER = Path(__file__).parent / "peers" / "trl_sft.py"
PROMPT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"


@dataclass
class Run:
    """What one process did; steps are (seconds since the start, tokens since the start) after each step."""

    steps: list[tuple[float, int]]
    first_loss: float
    peak_bytes: int

    @property
    def tokens_per_second(self) -> float:
        (start, before), (end, after) = self.steps[0], self.steps[-1]
        return (after - before) / (end - start)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("--data", type=Path, help="JSON or JSONL (.gz) of {prompt, response} or Alpaca rows; "
                        "default: alpaca_en_demo.json in the cache of `collimate demo`")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--rows", type=int, default=40, help="rows of one pass")
    parser.add_argument("--batch", type=int, default=8,
                        help="rows of a step; with --packing, packs of max-length tokens")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--packing", action="store_true", help="fill each step up to batch × max-length tokens")
    parser.add_argument("--group-by-length", action="store_true", help="let TRL put rows of like length together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def demo_data() -> Path:
    """The demo data that `collimate demo` fetched."""
    cache = Path(os.environ.get("COLLIMATE_CACHE", Path.home() / ".cache" / "collimate"))
    found = sorted(cache.rglob("alpaca_en_demo.json"))
    if not found:
        sys.exit(f"no alpaca_en_demo.json under {cache}: run `collimate demo` once, or name a file with --data")
    return found[0]


def write_rows(source: Path, count: int, target: Path) -> None:
    """Writes the first rows as {prompt, response} for both sides."""
    text = (gzip.open if source.suffix == ".gz" else open)(source, "rt", encoding="utf-8").read()
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    if len(rows) < count:
        sys.exit(f"{source} has {len(rows)} rows, --rows asks for {count}")
    with open(target, "w", encoding="utf-8") as file:
        for row in rows[:count]:
            if "instruction" in row:
                row = {"prompt": PROMPT.format(**row), "response": row["output"]}
            file.write(json.dumps({key: row[key] for key in ("prompt", "response")}, ensure_ascii=False) + "\n")


def measure(command: list[str], metrics: Path) -> Run:
    """Runs a process, and reads what it logged after each step and the most memory that it held."""
    log = metrics.parent.with_suffix(".log")
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    records = [record for record in records if "loss" in record]
    if len(records) < 2:
        sys.exit(f"{len(records)} steps are too few to time: the first is a warm-up; ask for more --rows")
    steps = [(record["seconds"], record["num_tokens"]) for record in records]
    return Run(steps, records[0]["loss"], usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def trl_command(arguments: argparse.Namespace, data: Path, output: Path) -> list[str]:
    command = [sys.executable, str(PEER), str(arguments.model), str(data), str(output)]
    for name in ("batch", "max_length", "threads"):
        command += ["--" + name.replace("_", "-"), str(getattr(arguments, name))]
    switches = [name for name in ("packing", "group_by_length") if getattr(arguments, name)]
    return command + ["--" + name.replace("_", "-") for name in switches]


def collimate_command(arguments: argparse.Namespace, data: Path, output: Path) -> list[str]:
    settings = {
        "model_name_or_path": arguments.model, "dataset": data, "output_dir": output, "num_train_epochs": 1,
        "gradient_accumulation_steps": 1, "max_length": arguments.max_length, "learning_rate": 2e-4,
        "lr_scheduler_type": "constant", "weight_decay": 0, "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0,
        "lora_target_modules": "q_proj,v_proj", "logging_steps": 1, "shuffle": "false",
    }
    if arguments.packing:
        settings["max_tokens_per_batch"] = arguments.batch * arguments.max_length
    else:
        settings["per_device_train_batch_size"] = arguments.batch
    command = [arguments.collimate, "train", "sft", "--threads", str(arguments.threads)]
    return command + [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def main() -> None:
    arguments = parse_arguments()
    sides = {"TRL": trl_command, "collimate": collimate_command}
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    print(f"{'round':>5}  {'side':<10} {'tokens/s':>9} {'peak GB':>8} {'first loss':>11}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "rows.jsonl")
        write_rows(arguments.data or demo_data(), arguments.rows, data)
        for number in range(1, arguments.rounds + 1):
            for name, command in sides.items():
                output = Path(folder, f"{name}-{number}")
                run = measure(command(arguments, data, output), output / "metrics.jsonl")
                runs[name].append(run)
                figures = f"{run.tokens_per_second:>9.1f} {run.peak_bytes / 1e9:>8.2f} {run.first_loss:>11.4f}"
                print(f"{number:>5}  {name:<10} {figures}", flush=True)
    pairs = list(zip(runs["collimate"], runs["TRL"]))
    speed = median(ours.tokens_per_second / peer.tokens_per_second for ours, peer in pairs)
    memory = median(ours.peak_bytes / peer.peak_bytes for ours, peer in pairs)
    print(f"median of {arguments.rounds}: {speed:.2f} times the tokens/s, {memory:.2f} of the peak memory")


if __name__ == "__main__":
    main()

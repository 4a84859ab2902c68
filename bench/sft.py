"""Runs TRL SFT and `collimate train sft` in turn on the same rows and prints tokens/s, peak memory and the ratio.

Each run is a process of its own that makes one pass over the first rows; its first step is a warm-up and is not
counted. Tokens are real tokens: no padding.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from turns import Run, add_arguments, compare, measure, read_rows, settings_words, write_rows

PEER = Path(__file__).parent / "peers" / "trl_sft.py"
PROMPT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rows=40, batch=8)
    parser.add_argument("--data", type=Path, help="JSON or JSONL (.gz) of {prompt, response} or Alpaca rows; "
                        "default: alpaca_en_demo.json in the cache of `collimate demo`")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--packing", action="store_true",
                        help="fill each step up to batch × max-length tokens: --batch then counts packs")
    return parser.parse_args()


def demo_data() -> Path:
    """The demo data that `collimate demo` fetched."""
    cache = Path(os.environ.get("COLLIMATE_CACHE", Path.home() / ".cache" / "collimate"))
    found = sorted(cache.rglob("alpaca_en_demo.json"))
    if not found:
        sys.exit(f"no alpaca_en_demo.json under {cache}: run `collimate demo` once, or name a file with --data")
    return found[0]


def pair(row: dict) -> dict:
    """A row as {prompt, response}."""
    if "instruction" in row:
        return {"prompt": PROMPT.format(**row), "response": row["output"]}
    return {key: row[key] for key in ("prompt", "response")}


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
    return command + settings_words(settings)


def main() -> None:
    arguments = parse_arguments()
    sides = {"TRL": trl_command, "collimate": collimate_command}
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    print(f"{'round':>5}  {'side':<10} {'tokens/s':>9} {'peak GB':>8} {'first loss':>11}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "rows.jsonl")
        source = arguments.data or demo_data()
        write_rows([pair(row) for row in read_rows(source)], source, arguments.rows, data)
        for number in range(1, arguments.rounds + 1):
            for name, command in sides.items():
                output = Path(folder, f"{name}-{number}")
                run = measure(command(arguments, data, output), output / "metrics.jsonl")
                runs[name].append(run)
                print(f"{number:>5}  {name:<10} {run}", flush=True)
    print(f"median of {arguments.rounds}: {compare(runs['collimate'], runs['TRL'])}")


if __name__ == "__main__":
    main()

"""Holds `collimate model plan` against trainings: the peak of their memory and their tokens/s, in several settings.

Each setting is planned, then trained for a few steps on rows of exactly the planned lengths, in a process of its own; its
first step is a warm-up and is not counted. A plan must be within 10 % of the peak, or the benchmark fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import settings_words, train

TOLERANCE = 0.1

# Each by what it differs from `COMMON` in; `length` is that of a prompt with one answer, half of it the answer.
SETTINGS = {
    "LoRA, f32": {"length": 512},
    "LoRA everywhere, bf16": {"length": 512, "dtype": "bfloat16", "lora_r": 16,
                              "lora_target_modules": "all-linear", "max_tokens_per_micro_batch": 2048},
    "DoRA everywhere, f32": {"length": 512, "use_dora": "true", "lora_target_modules": "all-linear"},
    "all weights, f32": {"length": 512, "full": "true"},
    "all weights, 8-bit AdamW": {"length": 512, "full": "true", "optim": "adamw_8bit"},
    "long, recomputed": {"length": 2048, "per_device_train_batch_size": 2, "max_tokens_per_micro_batch": 4096,
                         "memory": "2GB"},
    "DPO, f32": {"method": "dpo", "length": 512, "per_device_train_batch_size": 2,
                 "max_tokens_per_micro_batch": 1536},
}

COMMON = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "max_tokens_per_micro_batch": 1024}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="the settings whose names begin so")
    return parser.parse_args()


def row(method: str, length: int, number: int) -> dict:
    """A row that is cut to `length` tokens, half of which are the prompt's: every word is a token."""
    prompt = " ".join(["the"] * (length // 2))
    answer = [f" {word}" * length for word in ("one", "two")]
    if method == "dpo":
        return {"prompt": prompt, "chosen": answer[number % 2], "rejected": answer[1 - number % 2]}
    return {"prompt": prompt, "response": answer[number % 2]}


def plan(arguments: argparse.Namespace, method: str, settings: dict) -> dict:
    command = [arguments.collimate, "model", "plan", "--json", "--threads", str(arguments.threads)]
    words = settings_words({"model_name_or_path": arguments.model, "method": method, **settings})
    found = subprocess.run(command + words, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def main() -> None:
    arguments = parse_arguments()
    worst = 0.0
    print(f"{'setting':<26} {'planned GB':>10} {'peak GB':>8} {'':>7} {'planned tok/s':>13} {'tokens/s':>9} {'':>7}")
    for name, own in SETTINGS.items():
        if arguments.only and not name.startswith(arguments.only):
            continue
        settings = COMMON | own
        method, length = settings.pop("method", "sft"), settings.pop("length")
        settings["max_length"] = length
        planned = plan(arguments, method, settings)
        with tempfile.TemporaryDirectory() as folder:
            output, data = Path(folder, "output"), Path(folder, "rows.jsonl")
            rows = (row(method, length, number) for number in range(2 * settings["per_device_train_batch_size"]))
            data.write_text("".join(json.dumps(row) + "\n" for row in rows))
            more = {"model_name_or_path": arguments.model, "dataset": data, "output_dir": output, "logging_steps": 1,
                    "max_steps": arguments.steps}
            command = [arguments.collimate, "train", method, "--threads", str(arguments.threads)]
            cache = {"COLLIMATE_CACHE": str(Path(folder, "cache"))}
            records, peak = train(command + settings_words(settings | more), output / "metrics.jsonl", **cache)
        first, last = records[0], records[-1]
        speed = (last["num_tokens"] - first["num_tokens"]) / (last["seconds"] - first["seconds"])
        memory, rate = planned["memory"]["total"], planned["speed"]["tokens_per_second"]
        worst = max(worst, abs(memory / peak - 1))
        print(f"{name:<26} {memory / 1e9:>10.3f} {peak / 1e9:>8.3f} {memory / peak - 1:>+7.1%} "
              f"{rate:>13.0f} {speed:>9.0f} {rate / speed - 1:>+7.1%}", flush=True)
        parts = ", ".join(f"{part['name']} {part['bytes'] / 1e6:.0f} MB" for part in planned["memory"]["parts"])
        print(f"    {parts}; {planned['memory']['recomputed']} layers recomputed", flush=True)
    if worst > TOLERANCE:
        sys.exit(f"a plan is {worst:.1%} off, allowed are {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()

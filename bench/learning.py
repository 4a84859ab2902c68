"""Lets `collimate train grpo` and `train ppo` learn something small from rewards alone, with several seeds, and tests
whether the reward at the end is above the reward at the beginning.

The task: one sentence tells a person's name, age and city, and asks for them as a JSON object. The rewards: whether
the answer is a JSON object of exactly those keys, and the share of the three values that are right. SmolLM2-135M
begins at 0.4 and 0.3, and nearly every prompt has samples of different rewards.

The test: if nothing were learnt, the rewards of the first and the last rounds would be draws from one distribution,
and their difference no greater than when the same rounds are dealt out at random (a permutation test, one-sided; over
all seeds, each seed's rounds are dealt out among themselves). Ends with status 1 where a method did not learn, or went
further from the reference model than its bound. Needs Python alone.
"""

import argparse
import csv
import json
import os
import random
import shlex
import sys
from pathlib import Path
from statistics import mean

from turns import settings_words, train

HERE = Path(__file__).parent
NAMES = "Anna Boris Chen Dora Emil Fatima Goran Hana Ivan Julia Karim Lena Marta Nils Olga Pedro".split()
CITIES = "Oslo Lima Cairo Delhi Paris Tokyo Quito Accra Hanoi Dublin Lagos Vienna Athens Sofia Kyoto Bern".split()
JOBS = "baker teacher nurse pilot farmer painter lawyer driver".split()
PLACES = ["lives in", "comes from", "works in", "was born in", "studies in", "has moved to"]
SENTENCES = [
    "{name} is {age} years old and {place} {city}.",
    "{name}, a {job} aged {age}, {place} {city}.",
    "This is {name}, who {place} {city} and is {age} years old.",
]
TASK = 'Write this as a JSON object with the keys "name", "age" and "city". Write nothing else.'
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
COMMON = {
    "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "max_completion_length": 48, "temperature": 1,
    "learning_rate": 3e-4, "lr_scheduler_type": "constant", "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0,
    "lora_target_modules": "q_proj,v_proj", "logging_steps": 1, "dtype": "bfloat16",
}
METHODS = {
    "grpo": {"num_generations": 8, "beta": 0.04, "num_iterations": 1},
    "ppo": {"num_generations": 8, "kl_coef": 0.05, "num_iterations": 2},
}
COLUMNS = [
    "reward", "rewards/json/mean", "rewards/program/mean", "reward_std", "kl", "entropy", "completions/mean_length",
    "seconds",
]
DEALS = 20_000
CERTAIN = 0.01
"""A p-value below which a difference is no chance."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of an instruction-tuned model")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=24, help="how often 32 completions are written and learnt from")
    parser.add_argument("--ends", type=int, default=6, help="how many of the first and the last rounds are compared")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--max-kl", type=float, default=0.2, help="the bound of the mean KL divergence from the "
                        "reference over the last rounds, in nats a token")
    parser.add_argument("--output", type=Path, default=Path("results/learning"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def prompts(count: int) -> list[dict]:
    """Different prompts with what is to be found in them, the same ones every time."""
    draw, rows = random.Random(0), {}
    while len(rows) < count:
        facts = {"name": draw.choice(NAMES), "age": draw.randint(18, 80), "city": draw.choice(CITIES)}
        words = facts | {"job": draw.choice(JOBS), "place": draw.choice(PLACES)}
        text = f"{draw.choice(SENTENCES).format(**words)} {TASK}"
        rows[text] = {"prompt": [{"role": "user", "content": text}], **facts}
    return list(rows.values())


def rewards(folder: Path) -> list[str]:
    """The rewards as words of the command line; the schema is written into the folder."""
    schema = folder / "schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    program = shlex.join([sys.executable, str(HERE / "facts.py")])
    return ["--reward_funcs", f"json:{schema}", "--reward_funcs", f"program:{program}"]


def learn(arguments: argparse.Namespace, method: str, seed: int) -> list[dict]:
    """Trains once; what was logged at the first step of each round, where completions were written."""
    output, steps = arguments.output / f"{method}-{seed}", arguments.rounds * METHODS[method]["num_iterations"]
    settings = {
        "model_name_or_path": arguments.model, "dataset": arguments.output / "prompts.jsonl", "output_dir": output,
        "max_steps": steps, "seed": seed, **COMMON, **METHODS[method],
    }
    command = [arguments.collimate, "train", method, "--threads", str(arguments.threads), *settings_words(settings)]
    records, _ = train(command + rewards(arguments.output), output / "metrics.jsonl")
    return [record for record in records if "reward" in record]


def gain(curves: list[list[float]], ends: int) -> float:
    """How far the mean of the last rounds is above that of the first, over all curves."""
    return mean(mean(curve[-ends:]) - mean(curve[:ends]) for curve in curves)


def chance(curves: list[list[float]], ends: int) -> float:
    """How probable so great a gain is where nothing is learnt."""
    draw, found, dealt = random.Random(0), gain(curves, ends), [curve[:ends] + curve[-ends:] for curve in curves]
    reached = 0
    for _ in range(DEALS):
        for curve in dealt:
            draw.shuffle(curve)
        reached += gain(dealt, ends) >= found
    return (reached + 1) / (DEALS + 1)


def line(name: str, curves: list[list[float]], divergence: float, minutes: float, ends: int) -> tuple[str, float]:
    """A line of the table, and the p-value in it."""
    first, last = mean(mean(curve[:ends]) for curve in curves), mean(mean(curve[-ends:]) for curve in curves)
    probable = chance(curves, ends)
    figures = f"{first:>7.3f} {last:>7.3f} {last - first:>+7.3f} {probable:>9.5f} {divergence:>7.3f} {minutes:>8.1f}"
    return f"{name:<12} {figures}", probable


def judge(method: str, seeds: dict[int, list[dict]], arguments: argparse.Namespace) -> bool:
    """Prints a line for each seed and one for all; whether the method learnt within its bound."""
    ends, curves, divergences, minutes = arguments.ends, [], [], []
    for seed, rounds in seeds.items():
        curves.append([record["reward"] for record in rounds])
        divergences.append(mean(record["kl"] for record in rounds[-ends:]))
        minutes.append(rounds[-1]["seconds"] / 60)
        print(line(f"{method} {seed}", curves[-1:], divergences[-1], minutes[-1], ends)[0])
    text, probable = line(f"{method} all", curves, max(divergences), sum(minutes), ends)
    print(text, flush=True)
    return probable < CERTAIN and max(divergences) < arguments.max_kl


def write_curves(records: dict[str, dict[int, list[dict]]], target: Path) -> None:
    """The curves of all trainings, a row a round."""
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["method", "seed", "step", *COLUMNS], restval="", extrasaction="ignore")
        writer.writeheader()
        for method, seeds in records.items():
            for seed, rounds in seeds.items():
                writer.writerows({"method": method, "seed": seed, **record} for record in rounds)


def main() -> None:
    arguments = parse_arguments()
    if 2 * arguments.ends > arguments.rounds:
        sys.exit(f"--rounds {arguments.rounds} are too few for the {arguments.ends} first and as many last ones")
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps(row) + "\n" for row in prompts(arguments.prompts))
    (arguments.output / "prompts.jsonl").write_text("".join(rows), encoding="utf-8")
    records: dict[str, dict[int, list[dict]]] = {}
    print(f"{'':<12} {'first':>7} {'last':>7} {'gain':>7} {'p':>9} {'KL':>7} {'minutes':>8}", flush=True)
    failed = []
    for method in arguments.methods:
        records[method] = {}
        for seed in arguments.seeds:
            records[method][seed] = learn(arguments, method, seed)
            write_curves(records, arguments.output / "curves.csv")
        if not judge(method, records[method], arguments):
            failed.append(method)
    if failed:
        sys.exit(f"not learnt, or too far from the reference: {', '.join(failed)}")


if __name__ == "__main__":
    main()

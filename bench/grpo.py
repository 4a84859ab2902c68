"""Runs TRL GRPO and `collimate train grpo` in turn on the same prompts and prints the seconds of a step, how they part
between writing completions and learning from them, peak memory and the ratios.

Every completion has the same number of tokens on both sides, so both do the same work whatever they happen to write.
The reward is a rule that about every other completion meets: groups whose rewards are all equal, from which there is
nothing to learn, are rare. Each run is a process of its own; its first step is a warm-up and is not counted.
"""

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from turns import add_sides, read_rows, settings_words, train, write_rows

PEER = Path(__file__).parent / "peers" / "trl_grpo.py"
PROMPTS = [
    "Explain in a few sentences why leaves change their colour in autumn.",
    "Give me a plan for a weekend in the mountains with two small children.",
    "How many minutes are there in three and a half hours? Show how you work it out.",
    "Write a friendly note that asks a neighbour to water my plants next week.",
    "What should I look at when I buy a used bicycle?",
    "Tell a story about a lighthouse keeper who finds a letter in a bottle.",
    "Describe how bread is made, from the grain to the loaf, for somebody who has never seen it.",
    "List the advantages and the disadvantages of learning a language with films.",
]
PATTERN = "[a-m][^a-z]*$"
"""The last small letter is of the alphabet's first half."""


@dataclass
class Case:
    """What is asked of both sides."""

    prompts: int
    dtype: str
    beta: float

    def __str__(self) -> str:
        return f"{self.prompts} × {self.dtype}, beta {self.beta:g}"


@dataclass
class Step:
    """The mean step of a run, in seconds, and the largest resident set of its process."""

    seconds: float
    generating: float
    peak_bytes: int
    flat_groups: float
    """The share of groups whose rewards were all equal."""

    @property
    def learning(self) -> float:
        return self.seconds - self.generating

    def __str__(self) -> str:
        return f"{self.seconds:>8.2f} {self.generating:>10.2f} {self.learning:>8.2f} {self.peak_bytes / 1e9:>7.2f}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sides(parser)
    parser.add_argument("--data", type=Path, help="JSON or JSONL (.gz) of {prompt} or {instruction, input}; default: "
                        f"{len(PROMPTS)} prompts of this script")
    parser.add_argument("--steps", type=int, default=4, help="steps of a run, the warm-up among them")
    parser.add_argument("--samples", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--new-tokens", type=int, default=128, help="tokens of a completion")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 2], help="prompts of a step")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.0, 0.04], help="weights of the KL term; its "
                        "reference is the model without the adapter")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    return parser.parse_args()


def prompt_row(row: dict) -> dict:
    """A row as {prompt}, a message: both sides put it to the model by its chat template."""
    text = row["prompt"] if "prompt" in row else "\n\n".join(filter(None, (row["instruction"], row.get("input"))))
    return {"prompt": [{"role": "user", "content": text}]}


def trl_command(arguments: argparse.Namespace, case: Case, data: Path, output: Path) -> list[str]:
    command = [sys.executable, str(PEER), str(arguments.model), str(data), str(output), "--pattern", PATTERN]
    for name in ("steps", "samples", "new_tokens", "threads"):
        command += ["--" + name.replace("_", "-"), str(getattr(arguments, name))]
    return command + [word for name, value in asdict(case).items() for word in (f"--{name}", str(value))]


def collimate_command(arguments: argparse.Namespace, case: Case, data: Path, output: Path) -> list[str]:
    settings = {
        "model_name_or_path": arguments.model, "dataset": data, "output_dir": output, "max_steps": arguments.steps,
        "per_device_train_batch_size": arguments.samples, "gradient_accumulation_steps": case.prompts,
        "num_generations": arguments.samples, "max_completion_length": arguments.new_tokens,
        "min_new_tokens": arguments.new_tokens, "temperature": 1, "top_k": 0, "beta": case.beta, "loss_type": "dapo",
        "learning_rate": 1e-5, "lr_scheduler_type": "constant", "weight_decay": 0, "lora_r": 8, "lora_alpha": 16,
        "lora_dropout": 0, "lora_target_modules": "q_proj,v_proj", "logging_steps": 1, "shuffle": "false",
        "dtype": case.dtype,
    }
    command = [arguments.collimate, "train", "grpo", "--threads", str(arguments.threads)]
    return command + settings_words(settings) + ["--reward_funcs", f"regex:{PATTERN}"]


SIDES = {"TRL": trl_command, "collimate": collimate_command}


def measure(arguments: argparse.Namespace, command: list[str], metrics: Path) -> Step:
    """Runs a side, and takes the mean of its steps after the first."""
    records, peak = train(command, metrics)
    if any(record["completions/mean_length"] != arguments.new_tokens for record in records):
        sys.exit(f"{' '.join(command)}: not all completions have {arguments.new_tokens} tokens")
    timed, count = records[1:], len(records) - 1
    seconds = (timed[-1]["seconds"] - records[0]["seconds"]) / count
    generating = sum(record["seconds_generating"] for record in timed) / count
    return Step(seconds, generating, peak, sum(record["frac_reward_zero_std"] for record in timed) / count)


def middle(runs: list[Step]) -> Step:
    """The median of each figure over the rounds."""
    return Step(*(median(figures) for figures in zip(*(asdict(run).values() for run in runs), strict=True)))


def compare(ours: list[Step], peer: list[Step]) -> str:
    """The medians, over the rounds, of the ratios within a round."""

    def ratio(figure: str) -> float:
        return median(getattr(two, figure) / getattr(one, figure) for one, two in zip(ours, peer, strict=True))

    parts = f"{ratio('generating'):.1f} in generation, {ratio('learning'):.1f} in learning"
    return f"{ratio('seconds'):.1f} times as fast ({parts}), {1 / ratio('peak_bytes'):.2f} of the peak memory"


def save(runs: dict[str, dict[str, list[Step]]], target: Path) -> None:
    """Writes the figures of all rounds until now."""
    figures = {case: {side: list(map(asdict, steps)) for side, steps in sides.items()} for case, sides in runs.items()}
    target.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    arguments = parse_arguments()
    rows = read_rows(arguments.data) if arguments.data else [{"prompt": prompt} for prompt in PROMPTS]
    cases = [Case(*case) for case in itertools.product(arguments.prompts, arguments.dtypes, arguments.betas)]
    runs: dict[str, dict[str, list[Step]]] = {str(case): {side: [] for side in arguments.sides} for case in cases}
    heads = f"{'prompts a step':<24} {'side':<9} {'s a step':>8} {'generating':>10} {'learning':>8} {'peak GB':>7}"
    print(f"round  {heads}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "prompts.jsonl")
        wanted = min(len(rows), arguments.steps * max(arguments.prompts))
        write_rows([prompt_row(row) for row in rows[:wanted]], arguments.data, wanted, data)
        for number in range(1, arguments.rounds + 1):
            for (at, case), side in itertools.product(enumerate(cases), arguments.sides):
                output = Path(folder, f"{side}-{at}-{number}")
                run = measure(arguments, SIDES[side](arguments, case, data, output), output / "metrics.jsonl")
                runs[str(case)][side].append(run)
                print(f"{number:>5}  {case!s:<24} {side:<9} {run}", flush=True)
                if arguments.output:
                    save(runs, arguments.output)
    print(f"\nmedians of {arguments.rounds}\n       {heads}")
    for case, sides in runs.items():
        for side, steps in sides.items():
            print(f"       {case:<24} {side:<9} {middle(steps)}")
        if len(sides) > 1:
            print(f"       {case:<24} collimate is {compare(sides['collimate'], sides['TRL'])}")


if __name__ == "__main__":
    main()

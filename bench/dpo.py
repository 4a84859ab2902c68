"""Runs TRL DPO and `collimate train dpo` in turn on the same rows and prints tokens/s, peak memory and the ratios.

Four pairings: float32 and bfloat16, each with the reference's log-probs computed on the way and with them known before.
TRL computes them anew at every step, or before training (`precompute_ref_log_probs`; that time is not counted). Ours
computes them once: with a cold cache that time is counted, scaled to the tokens of the timed steps; with a warm cache
there is nothing to count. A pair is counted as TRL's num_tokens counts it on every side, 2 · prompt + chosen +
rejected, though ours computes the prompt once: the same work done.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from turns import Run, add_arguments, compare, measure, read_rows, settings_words, write_rows

HERE = Path(__file__).parent
PEER = HERE / "peers" / "trl_dpo.py"
ROWS = HERE.parent / "fixtures" / "dpo_rows.jsonl"
DTYPES = ("float32", "bfloat16")
ANSWER_TOKENS = 100
ROLES = {"human": "user", "gpt": "assistant"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rows=32, batch=4)
    parser.add_argument("--data", type=Path, default=ROWS,
                        help="JSON or JSONL (.gz) of {prompt, chosen, rejected} or {conversations, chosen, rejected}")
    parser.add_argument("--long", action="store_true",
                        help="prompts of 1,000 to 2,000 tokens and answers of about 100, put together from the texts of "
                        "the rows, which must be strings")
    parser.add_argument("--max-length", type=int, help="default: 1024, with --long 2560")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    arguments = parser.parse_args()
    arguments.max_length = arguments.max_length or (2560 if arguments.long else 1024)
    return arguments


def messages(value: str | dict | list) -> list[dict]:
    """An answer or a prompt as {role, content} messages, whatever it is in the row."""
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    turns = value if isinstance(value, list) else [value]
    named = [(turn.get("role") or turn["from"], turn.get("content") or turn.get("value") or "") for turn in turns]
    return [{"role": ROLES.get(role, role), "content": content} for role, content in named]


def pair(row: dict) -> dict:
    """A row as {prompt, chosen, rejected}, strings or messages, as TRL wants it."""
    if "conversations" in row:
        row = {"prompt": row["conversations"], "chosen": row["chosen"], "rejected": row["rejected"]}
        return {key: messages(value) for key, value in row.items()}
    return {key: row[key] for key in ("prompt", "chosen", "rejected")}


def says_something(answer: str | list[dict]) -> bool:
    return bool((answer if isinstance(answer, str) else "".join(turn["content"] for turn in answer)).strip())


def sound(rows: list[dict]) -> list[dict]:
    """The rows that both sides keep: TRL also trains on equal and empty answers."""
    answered = [row for row in rows if says_something(row["chosen"]) and says_something(row["rejected"])]
    return [row for row in answered if row["chosen"] != row["rejected"]]


def lengthened(rows: list[dict], count: int, model: Path) -> list[dict]:
    """Rows with long prompts: texts of the given rows one after the other, each row starting at another."""
    # Not transformers': a process that it has filled counts in the peak memory of those started from it.
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def joined(key: str, first: int, length: int) -> str:
        ids, at = [], first
        while len(ids) < length:
            row = rows[at % len(rows)]
            text = row["prompt"] + row["chosen"] if key == "prompt" else row[key]
            ids += tokenizer.encode(text + "\n\n", add_special_tokens=False).ids
            at += 1
        return tokenizer.decode(ids[:length])

    return [
        {
            "prompt": joined("prompt", at, 1000 + 389 * at % 1000) + "\n\n",
            "chosen": joined("chosen", at, ANSWER_TOKENS),
            "rejected": joined("rejected", at, ANSWER_TOKENS),
        }
        for at in range(count)
    ]


def trl(arguments: argparse.Namespace, dtype: str, precomputed: bool, data: Path, output: Path) -> Run:
    command = [sys.executable, str(PEER), str(arguments.model), str(data), str(output), "--dtype", dtype]
    for name in ("batch", "max_length", "threads"):
        command += ["--" + name.replace("_", "-"), str(getattr(arguments, name))]
    switches = {"--group-by-length": arguments.group_by_length, "--precompute": precomputed}
    command += [name for name, wanted in switches.items() if wanted]
    # datasets keeps what TRL precomputes: a folder of its own, or a later round would find it.
    return measure(command, output / "metrics.jsonl", HF_DATASETS_CACHE=str(output.with_suffix(".cache")))


def collimate(arguments: argparse.Namespace, dtype: str, cache: Path, data: Path, output: Path) -> Run:
    settings = {
        "model_name_or_path": arguments.model, "dataset": data, "output_dir": output, "num_train_epochs": 1,
        "per_device_train_batch_size": arguments.batch, "gradient_accumulation_steps": 1,
        "max_length": arguments.max_length, "beta": 0.1, "loss_type": "sigmoid", "learning_rate": 1e-4,
        "lr_scheduler_type": "constant", "weight_decay": 0, "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0,
        "lora_target_modules": "q_proj,v_proj", "logging_steps": 1, "shuffle": "false", "dtype": dtype,
    }
    command = [arguments.collimate, "train", "dpo", "--threads", str(arguments.threads)] + settings_words(settings)
    return measure(command, output / "metrics.jsonl", COLLIMATE_CACHE=str(cache))


def reference_seconds(output: Path) -> float:
    """How long our reference's log-probs took, as the run's manifest says."""
    return json.loads((output / "manifest.json").read_text())["summary"]["reference_seconds"]


def count_alike(run: Run, peer: Run, group_by_length: bool) -> None:
    """Counts the tokens as the peer counts them; only the sum is the same if the peer has another order."""
    if len(run.steps) != len(peer.steps):
        sys.exit(f"{len(run.steps)} steps against TRL's {len(peer.steps)}: the two did not keep the same rows")
    counted = [tokens for _, tokens in peer.steps]
    if group_by_length:
        counted = [counted[-1] * own / run.steps[-1][1] for _, own in run.steps]
    run.steps = [(seconds, tokens) for (seconds, _), tokens in zip(run.steps, counted, strict=True)]


def turn(arguments: argparse.Namespace, dtype: str, data: Path, folder: Path) -> dict[str, Run]:
    """Each side once in each mode, with the same type of numbers."""
    runs = {}
    for mode, precomputed in (("every step", False), ("precomputed", True)):
        runs[f"TRL {dtype}, {mode}"] = trl(arguments, dtype, precomputed, data, folder / f"trl-{mode.split()[0]}")
    peer = runs[f"TRL {dtype}, every step"]
    for mode in ("cold", "warm"):
        output = folder / f"collimate-{mode}"
        run = collimate(arguments, dtype, folder / "cache", data, output)
        count_alike(run, peer, arguments.group_by_length)
        if mode == "cold":
            share = 1 - run.steps[0][1] / run.steps[-1][1]
            run.extra_seconds = reference_seconds(output) * share
        runs[f"collimate {dtype}, {mode}"] = run
    return runs


def main() -> None:
    arguments = parse_arguments()
    rows = sound([pair(row) for row in read_rows(arguments.data)])
    if arguments.long:
        rows = lengthened(rows, arguments.rows, arguments.model)
    runs: dict[str, list[Run]] = {}
    print(f"{'round':>5}  {'side':<28} {'tokens/s':>9} {'peak GB':>8} {'first loss':>11}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "rows.jsonl")
        write_rows(rows, arguments.data, arguments.rows, data)
        for number in range(1, arguments.rounds + 1):
            for dtype in arguments.dtypes:
                place = Path(folder, f"{number}-{dtype}")
                place.mkdir()
                for name, run in turn(arguments, dtype, data, place).items():
                    runs.setdefault(name, []).append(run)
                    print(f"{number:>5}  {name:<28} {run}", flush=True)
                    if abs(run.first_loss - math.log(2)) > 1e-4:
                        sys.exit(f"{name}: before anything is learnt the loss is ln 2 = {math.log(2):.4f}")
    print(f"median of {arguments.rounds}:")
    for dtype in arguments.dtypes:
        for ours, mode in (("cold", "every step"), ("warm", "precomputed")):
            figures = compare(runs[f"collimate {dtype}, {ours}"], runs[f"TRL {dtype}, {mode}"])
            print(f"{dtype}, {ours} cache against TRL's reference {mode}: {figures}")


if __name__ == "__main__":
    main()

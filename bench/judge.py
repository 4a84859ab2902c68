"""Runs the judge pipeline's data stages on made-up judgements of 10,000 and of 100,000 raw pairs and prints the time
and the peak memory of each: what they hold must not grow with the rows.

    python3 bench/judge.py MODEL_DIR

The raw pairs, in English and Chinese, are made up here, and so are the judgements that a model would write: most of
them right, some wrong, some that cannot be read. `judge prompts`, `judge tidy`, `judge pairs` and `data inspect` are
the real ones; MODEL_DIR lends them its tokenizer. All draws are seeded, so every run works on the same bytes.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SAMPLES = 8
WORDS = {
    "en": "the answer names each step, gives its reason. and keeps to what was asked while other texts wander off "
          "into places nobody wished to visit".split(),
    "zh": "回答 说明 每一步 并 给出 理由。 另一个 没有 依据, 内容 不够 完整 而且 偏离 问题。".split(),
}
KEYS = {"en": ("reason", "better_answer"), "zh": ("原因", "更好的回答")}


def text(draw: random.Random, language: str, words: int) -> str:
    return (" " if language == "en" else "").join(draw.choices(WORDS[language], k=words))


def raw_pairs(count: int) -> Iterator[dict]:
    """Two conversations that part at the last answer, a few of them longer than one turn."""
    draw = random.Random(1)
    for number in range(count):
        language = "zh" if draw.random() < 0.5 else "en"
        turns = [{"role": "user", "content": f"{number}: {text(draw, language, draw.randint(5, 80))}?"}]
        if draw.random() < 0.1:
            turns += [{"role": "assistant", "content": text(draw, language, 40)},
                      {"role": "user", "content": text(draw, language, 10)}]
        answers = [{"role": "assistant", "content": text(draw, language, draw.randint(20, 150))} for _ in range(2)]
        yield {"chosen": [*turns, answers[0]], "rejected": [*turns, answers[1]], "source": f"site {draw.randrange(5)}"}


def judgement(draw: random.Random, language: str, number: int) -> str:
    """A verdict for an answer, in one of the forms in which models write it."""
    reason, better = KEYS[language]
    why = text(draw, language, draw.randint(20, 120))
    whole = json.dumps({reason: why, better: number}, ensure_ascii=False)
    quoted = json.dumps({reason: why, better: str(number)}, ensure_ascii=False)
    forms = [
        whole,
        quoted,
        f"```json\n{whole}\n```",
        f"{text(draw, language, 8)}\n{whole}\n{text(draw, language, 4)}",
        f"{{“{reason}”：“{why}”，“{better}”：{number}}}",
        f"{{'{reason}': '{why}', '{better}': {number}}}",
        whole[:-1] + ",}",
        whole[:-1],
    ]
    return draw.choice(forms)


def unreadable(draw: random.Random, language: str) -> str:
    """A text that says nothing of which answer is better."""
    return draw.choice(["", text(draw, language, 60), '{"' + KEYS[language][0] + '": "', '{"better_answer": 3}'])


def language_of(prompt: dict) -> str:
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in prompt["q"]) else "en"


def samples(draw: random.Random, prompt: dict) -> Iterator[str]:
    """The answers of a judge that is right more often than not."""
    language, right = language_of(prompt), prompt["chosen"]
    habit = draw.choices([0.95, 0.6, 0.1, 0.0], [2, 5, 2, 1])[0]
    for _ in range(SAMPLES):
        if draw.random() < 0.1 or habit == 0.0:
            yield unreadable(draw, language)
        else:
            yield judgement(draw, language, right if draw.random() < habit else 3 - right)


def hint(draw: random.Random, prompt: dict, number: int) -> str:
    """The reason for an answer that was told; some are too long to stay whole, and some have no full stop."""
    language = language_of(prompt)
    reason, better = KEYS[language]
    words = text(draw, language, draw.choice([30, 80, 800]))
    words = words.replace(".", "").replace("。", "") if draw.random() < 0.1 else words
    return json.dumps({reason: words, better: number}, ensure_ascii=False)


def write(path: Path, rows: Iterator[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as output:
        output.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_judgements(prompts: Path, folder: Path) -> None:
    """What `judge sample` and `judge hint` would leave behind; a few rows twice or not at all, for tidying."""
    kept = ("prompt", "tag", "test_id", "chosen")

    def rows(seed: int, texts) -> Iterator[dict]:
        draw = random.Random(seed)
        with open(prompts, encoding="utf-8") as lines:
            for prompt in map(json.loads, lines):
                lost, repeated = draw.random() < 0.001, draw.random() < 0.001
                for sample, said in enumerate(texts(draw, prompt)):
                    row = {**{name: prompt[name] for name in kept}, "gen": said, "sample": sample}
                    yield from [row] * (0 if lost else 2 if repeated else 1)

    write(folder / "samples" / "output.jsonl", rows(2, samples))
    write(folder / "hints" / "guide.jsonl", rows(3, lambda draw, row: [hint(draw, row, row["chosen"])]))
    write(folder / "hints" / "guide_reverse.jsonl", rows(4, lambda draw, row: [hint(draw, row, 3 - row["chosen"])]))


def stage(arguments: argparse.Namespace, pairs: int, name: str, output: Path, **settings: Path) -> None:
    """Runs a stage and prints what its manifest says it took."""
    command = [arguments.collimate, *name.split(), "--output_dir", str(output)]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    peak = manifest["peak_memory_bytes"] / 1e6
    print(f"{pairs:>9,}  {name:<14} {manifest['seconds']:>8.1f} {peak:>9.1f}", flush=True)


def pipeline(arguments: argparse.Namespace, pairs: int, folder: Path) -> None:
    raw, judge = folder / "raw.jsonl", folder / "judge"
    write(raw, raw_pairs(pairs))
    stage(arguments, pairs, "judge prompts", judge / "prompts", dataset=raw)
    prompts = judge / "prompts" / "prompts.jsonl"
    write_judgements(prompts, judge)
    tidied, made = judge / "tidied", judge / "pairs"
    stage(arguments, pairs, "judge tidy", tidied, samples=judge / "samples" / "output.jsonl", hints=judge / "hints")
    model = {"model_name_or_path": arguments.model}
    stage(arguments, pairs, "judge pairs", made, dataset=tidied, prompts=prompts, **model)
    stage(arguments, pairs, "data inspect", folder / "inspect", dataset=made, **model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder whose tokenizer counts")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000], help="raw pairs, one run each")
    parser.add_argument("--folder", type=Path, help="where files are made and left; default: a temporary folder")
    arguments = parser.parse_args()
    print(f"{'raw pairs':>9}  {'stage':<14} {'seconds':>8} {'peak MB':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        for pairs in arguments.pairs:
            folder = (arguments.folder or Path(temporary)) / str(pairs)
            pipeline(arguments, pairs, folder)


if __name__ == "__main__":
    main()

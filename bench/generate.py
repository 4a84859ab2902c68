"""Samples the same prompts with llama.cpp, transformers and `collimate generate` in turn: tokens/s, memory, ratios.

Three kinds of work: `samples`, several samples of each of many prompts; `stream`, one sample of one short prompt; and
`prefill`, one token after each of many prompts, where prompt tokens are counted. Answers are all of the same length:
no end token ends them. Loading is not counted on any side.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "fixtures"))
from texts import long_text  # noqa: E402
from turns import run  # noqa: E402

PEERS = Path(__file__).parent / "peers"
SHORT = "The lighthouse keeper had counted the ships every evening for thirty years, until"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("gguf", type=Path, help="the same model as a GGUF file of 4 bits, for llama.cpp and --dtype gguf")
    parser.add_argument("--collimate", default="target/release/collimate", help="the binary")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16", "int8", "gguf"], default=["int8", "gguf"])
    parser.add_argument("--work", nargs="+", choices=["samples", "stream", "prefill"],
                        default=["samples", "stream", "prefill"])
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=300)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--together", type=int, default=32, help="samples that collimate writes together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-transformers", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def make_prompts(model: Path, count: int, length: int) -> list[str]:
    """Different prompts of about `length` tokens, as stretches of one long text."""
    # Not transformers': a process that it has filled counts in the peak memory of those started from it.
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = tokenizer.encode(long_text(count * length // 40), add_special_tokens=False).ids
    return [tokenizer.decode(ids[at * length : (at + 1) * length]) for at in range(count)]


def ours(arguments: argparse.Namespace, dtype: str, work: dict, folder: Path) -> tuple[float, int]:
    """Tokens/s and peak memory of `collimate generate`."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in work["prompts"]), encoding="utf-8")
    model = arguments.gguf if dtype == "gguf" else arguments.model
    log = folder / "ours.log"
    words = f"--dtype {dtype} --n {work['samples']} --max_new_tokens {work['new_tokens']} " \
        f"--min_new_tokens {work['new_tokens']} --do_sample --temperature 1.2 --top_k 50 --top_p 0.95 " \
        f"--per_device_eval_batch_size {arguments.together} --threads {arguments.threads} --prompt_format plain " \
        "--force --json --quiet"
    command = [arguments.collimate, "generate", "--model_name_or_path", str(model), "--prompts", str(prompts),
               "--output_dir", str(folder / "out"), *words.split()]
    peak = run(command, log)
    effort = json.loads(log.read_text().splitlines()[-1])["summary"]["effort"]
    return effort["tokens"] / effort["seconds"], peak


def peer(arguments: argparse.Namespace, name: str, work: dict, folder: Path) -> tuple[float, int]:
    """Tokens/s and peak memory of a Python peer."""
    job, log = folder / "job.json", folder / f"{name}.log"
    job.write_text(json.dumps(work | {"threads": arguments.threads}), encoding="utf-8")
    model = arguments.gguf if name == "llama_cpp" else arguments.model
    peak = run([sys.executable, str(PEERS / f"{name}_generate.py"), str(model), str(job)], log)
    result = json.loads(log.read_text().splitlines()[-1])
    return result["tokens"] / result["seconds"], peak


def main() -> None:
    arguments = parse_arguments()
    prompts = make_prompts(arguments.model, arguments.prompts, arguments.prompt_tokens)
    works = {
        "samples": {"prompts": prompts, "samples": arguments.samples, "new_tokens": arguments.new_tokens},
        "stream": {"prompts": [SHORT], "samples": 1, "new_tokens": arguments.new_tokens},
        "prefill": {"prompts": prompts, "samples": 1, "new_tokens": 1},
    }
    sides = ["llama_cpp"] + ["transformers"] * (not arguments.without_transformers) + arguments.dtypes
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.work:
            # Where one token follows a prompt, it is the prompt's tokens that take the time.
            scale = arguments.prompt_tokens if name == "prefill" else 1
            rates: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(arguments.rounds):
                for side in sides:
                    if side in arguments.dtypes:
                        rate, peak = ours(arguments, side, works[name], Path(folder))
                    else:
                        rate, peak = peer(arguments, side, works[name], Path(folder))
                    rates[side].append(rate * scale)
                    print(f"{name:8} {side:12} {rate * scale:>9.1f} tokens/s {peak / 1e9:>6.2f} GB", flush=True)
            for dtype in arguments.dtypes:
                for other in sides[: -len(arguments.dtypes)]:
                    ratio = median(one / two for one, two in zip(rates[dtype], rates[other], strict=True))
                    print(f"{name}: {dtype} is {ratio:.2f} times {other}")


if __name__ == "__main__":
    main()

"""Samples prompts with transformers' generate in float32: MODEL JOB.json; prints {tokens, seconds}.

The samples of four prompts at a time are one batch, padded on the left: the fastest here.
"""

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("job")
    arguments = parser.parse_args()
    with open(arguments.job, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    new, written, start = job["new_tokens"], 0, time.perf_counter()
    for at in range(0, len(job["prompts"]), PROMPTS):
        batch = tokenizer(job["prompts"][at : at + PROMPTS], return_tensors="pt", padding=True)
        output = model.generate(
            **batch, do_sample=True, temperature=1.2, top_k=50, top_p=0.95, num_return_sequences=job["samples"],
            max_new_tokens=new, min_new_tokens=new, pad_token_id=tokenizer.pad_token_id,
        )
        written += (output.shape[1] - batch["input_ids"].shape[1]) * output.shape[0]
    print(json.dumps({"tokens": written, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

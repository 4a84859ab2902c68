"""Samples prompts with llama.cpp through its batch interface: MODEL.gguf JOB.json; prints {tokens, seconds}.

A prompt is decoded once; its samples are copies of that sequence, decoded together in one batch a step. Several
prompts at a time are slower here: every row looks at the cells of all sequences.
"""

import argparse
import json
import time

import llama_cpp as llama
from llama_cpp import Llama

BATCH = 512


def chain(seed: int) -> int:
    """Top-k 50, top-p 0.95, temperature 1.2, a draw."""
    sampler = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for part in (
        llama.llama_sampler_init_top_k(50), llama.llama_sampler_init_top_p(0.95, 1),
        llama.llama_sampler_init_temp(1.2), llama.llama_sampler_init_dist(seed),
    ):
        llama.llama_sampler_chain_add(sampler, part)
    return sampler


def fill(batch: llama.llama_batch, rows: list[tuple[int, int, int, bool]]) -> None:
    """Rows of (token, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(rows)
    for at, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position, 1
        batch.seq_id[at][0], batch.logits[at] = sequence, wanted


def decode(context: int, batch: llama.llama_batch, rows: list) -> None:
    """In parts, where there are more rows than a batch holds."""
    for at in range(0, len(rows), BATCH):
        fill(batch, rows[at : at + BATCH])
        if llama.llama_decode(context, batch) != 0:
            raise SystemExit("llama.cpp could not decode the batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("job")
    arguments = parser.parse_args()
    with open(arguments.job, encoding="utf-8") as file:
        job = json.load(file)
    samples, threads = job["samples"], job["threads"]
    model = Llama(arguments.model, n_ctx=512, n_threads=threads, verbose=False)
    prompts = [model.tokenize(prompt.encode(), add_bos=False) for prompt in job["prompts"]]
    parameters = llama.llama_context_default_params()
    # A prompt stands once, and behind it each sample of it.
    parameters.n_ctx = max(map(len, prompts)) + samples * job["new_tokens"]
    parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = BATCH, BATCH, samples
    parameters.n_threads, parameters.n_threads_batch, parameters.kv_unified = threads, threads, True
    context = llama.llama_init_from_model(model.model, parameters)
    memory, batch = llama.llama_get_memory(context), llama.llama_batch_init(BATCH, 0, 1)
    decode(context, batch, [(prompts[0][0], 0, 0, True)])

    start, written = time.perf_counter(), 0
    for prompt in prompts:
        llama.llama_memory_clear(memory, True)
        decode(context, batch, [(token, at, 0, at == len(prompt) - 1) for at, token in enumerate(prompt)])
        samplers = [chain(seed) for seed in range(samples)]
        for sequence in range(1, samples):
            llama.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        last = [llama.llama_sampler_sample(sampler, context, -1) for sampler in samplers]
        for step in range(1, job["new_tokens"]):
            decode(context, batch, [(token, len(prompt) + step - 1, at, True) for at, token in enumerate(last)])
            last = [llama.llama_sampler_sample(sampler, context, at) for at, sampler in enumerate(samplers)]
        written += job["new_tokens"] * samples
        for sampler in samplers:
            llama.llama_sampler_free(sampler)
    print(json.dumps({"tokens": written, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

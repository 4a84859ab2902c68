"""TRL's LoRA GRPO over a JSONL of {prompt}, a rule as the reward: timed after each step into OUTPUT/metrics.jsonl.

Completions have exactly --new-tokens tokens. Generation is transformers' `generate` with its cache, all completions of
a step in one batch; vLLM, TRL's other generator, wants a GPU here.
"""

import argparse
import re
import time
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from clock import StepClock


class TimedGRPOTrainer(GRPOTrainer):
    """Notes how many seconds of each step go into writing completions: tokenised, generated and decoded."""

    def __init__(self, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.seconds_generating: list[float] = []

    def _generate(self, prompts: list) -> tuple:
        start = time.perf_counter()
        generated = super()._generate(prompts)
        self.seconds_generating.append(time.perf_counter() - start)
        return generated


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder of the model")
    parser.add_argument("data", help="JSONL of {prompt}, messages")
    parser.add_argument("output", type=Path)
    parser.add_argument("--pattern", required=True, help="a completion in which it is found earns 1, another 0")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=1, help="prompts of a step")
    parser.add_argument("--samples", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def config(arguments: argparse.Namespace) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(arguments.output), max_steps=arguments.steps, per_device_train_batch_size=arguments.samples,
        gradient_accumulation_steps=arguments.prompts, num_generations=arguments.samples,
        max_completion_length=arguments.new_tokens, generation_kwargs={"min_new_tokens": arguments.new_tokens},
        temperature=1.0, top_k=0, top_p=1.0, beta=arguments.beta, learning_rate=1e-5, lr_scheduler_type="constant",
        shuffle_dataset=False, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        bf16=False, fp16=False, gradient_checkpointing=False, seed=0,
    )


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    pattern = re.compile(arguments.pattern)

    def found(completions: list[list[dict]], **_) -> list[float]:
        return [float(bool(pattern.search(completion[0]["content"]))) for completion in completions]

    clock = StepClock()
    trainer = TimedGRPOTrainer(
        # In bfloat16 the weights themselves are: autocast converts them again for every token that is written.
        model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)),
        reward_funcs=found,
        args=config(arguments), processing_class=AutoTokenizer.from_pretrained(arguments.model), callbacks=[clock],
        train_dataset=load_dataset("json", data_files=arguments.data, split="train"),
        peft_config=LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    clock.write(trainer, arguments.output, seconds_generating=trainer.seconds_generating)


if __name__ == "__main__":
    main()

"""TRL's LoRA DPO over a JSONL of {prompt, chosen, rejected}: one pass, timed after each step into OUTPUT/metrics.jsonl."""

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from clock import StepClock


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="Hugging Face folder of the model")
    parser.add_argument("data", help="JSONL of {prompt, chosen, rejected}")
    parser.add_argument("output", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--precompute", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    config = DPOConfig(
        output_dir=str(arguments.output), num_train_epochs=1, per_device_train_batch_size=arguments.batch, beta=0.1,
        learning_rate=1e-4, lr_scheduler_type="constant", max_length=arguments.max_length,
        train_sampling_strategy="group_by_length" if arguments.group_by_length else "sequential",
        precompute_ref_log_probs=arguments.precompute, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        bf16=False, fp16=False, gradient_checkpointing=False, seed=0,
    )
    clock = StepClock()
    trainer = DPOTrainer(
        # In bfloat16 the weights themselves are: less to convert than with autocast over float32 weights.
        model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)),
        args=config, processing_class=AutoTokenizer.from_pretrained(arguments.model), callbacks=[clock],
        train_dataset=load_dataset("json", data_files=arguments.data, split="train"),
        peft_config=LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    clock.write(trainer, arguments.output)


if __name__ == "__main__":
    main()

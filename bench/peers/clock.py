"""The time after each step, and what a trainer logged with it."""

import json
import time
from pathlib import Path

from transformers import Trainer, TrainerCallback


class StepClock(TrainerCallback):
    """Notes the seconds since the start of training at the end of each step."""

    def on_train_begin(self, *_, **__) -> None:
        self.start, self.seconds = time.perf_counter(), []

    def on_step_end(self, *_, **__) -> None:
        self.seconds.append(time.perf_counter() - self.start)

    def write(self, trainer: Trainer, output: Path, **columns: list[float]) -> None:
        """Writes OUTPUT/metrics.jsonl, a line a step: what was logged, the seconds, and further numbers of each step."""
        output.mkdir(parents=True, exist_ok=True)
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
        with open(output / "metrics.jsonl", "w", encoding="utf-8") as file:
            for seconds, entry, *more in zip(self.seconds, logged, *columns.values(), strict=True):
                fields = {"loss": float(entry["loss"]), "num_tokens": int(entry["num_tokens"]), "seconds": seconds}
                file.write(json.dumps(entry | fields | dict(zip(columns, more, strict=True))) + "\n")

"""RetroInfer from the command line: generate from a long prompt."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, no_type_check

from papertrial.deeds import Deed, Fact, Progress
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from papertrial.serving.retroinfer.sizes import IndexSettings


@dataclass(frozen=True)
class GenerateWithRetroInfer(Deed):
    """Continue a long prompt with a Llama, Qwen2 or Qwen3 that decodes through wave indexes, greedily.

    Attributes:
        model: a folder or hub id.
        prompt: the file with the prompt.
        max_new_tokens: the most tokens to generate.
        out: where to write the answer; by default it is returned.
        chat: put the prompt into the model's chat template as the user's turn.
        retrieve: share of the clusters attended exactly.
        estimate: share of the clusters approximated.
        min_index_len: prompts with fewer tokens are attended densely.
        cache_ratio: keep keys and values in host memory behind a wave buffer whose cache holds this share of
            the clusters (0: three times the retrieved ones). By default all stays on the device.
        dtype: number format of the model.
        device: where it runs.
    """

    model: str
    prompt: Path
    max_new_tokens: int = 256
    out: Path | None = None
    chat: bool = False
    retrieve: float = 0.018
    estimate: float = 0.232
    min_index_len: int = 1092
    cache_ratio: float | None = None
    dtype: str = "float32"
    device: str = "cpu"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Generate, and return the answer with how it was made.

        Raises:
            BadInputError: no such prompt, an empty one, or a model that cannot be loaded.
        """
        settings = self._settings()
        text = self._read_prompt()
        import torch
        from transformers.generation.streamers import BaseStreamer

        from papertrial.models import load_causal_lm, load_tokenizer
        from papertrial.serving.retroinfer.cache import attach

        tokenizer = load_tokenizer(self.model)
        model = load_causal_lm(self.model, dtype=self.dtype, device=self.device).eval()
        if self.chat:
            turns = [{"role": "user", "content": text}]
            text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not self.chat).to(model.device)
        most = self.max_new_tokens

        class Told(BaseStreamer):
            """Tells the progress of every token; the first call brings the prompt."""

            told = -1

            def put(self, value: torch.Tensor) -> None:
                self.told += 1
                progress(self.told, most, "tokens")

            def end(self) -> None:
                progress(most, most, "tokens")

        cache = attach(model, settings)
        start = time.perf_counter()
        with torch.no_grad():
            made = model.generate(
                **inputs, past_key_values=cache, max_new_tokens=most, do_sample=False, streamer=Told()
            )
        seconds = time.perf_counter() - start
        prompt_tokens = inputs["input_ids"].shape[1]
        answer = str(tokenizer.decode(made[0, prompt_tokens:], skip_special_tokens=True))
        if self.out is not None:
            self.out.write_text(answer, encoding="utf-8")
        stats = cache.stats
        return {
            "answer": answer if self.out is None else str(self.out),
            "prompt_tokens": prompt_tokens,
            "new_tokens": made.shape[1] - prompt_tokens,
            "mode": stats.mode,
            "clusters": stats.clusters[0] if stats.clusters else 0,
            "clusters_touched": stats.touched,
            "skipped_layers": ", ".join(f"{i} ({kind})" for i, kind in stats.skipped_layers.items())
            or "none",
            "index_seconds": round(stats.build_seconds + stats.update_seconds, 3),
            "seconds": round(seconds, 3),
        }

    @no_type_check
    def _settings(self) -> IndexSettings:
        from papertrial.serving.retroinfer.sizes import IndexSettings

        if self.max_new_tokens < 1:
            raise BadInputError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        return replace(
            IndexSettings(),
            retrieve=self.retrieve,
            estimate=self.estimate,
            min_index_len=self.min_index_len,
            cache_ratio=self.cache_ratio,
            max_new_tokens=self.max_new_tokens,
        )

    def _read_prompt(self) -> str:
        if not self.prompt.is_file():
            raise BadInputError(f"no prompt file at {self.prompt}")
        text = self.prompt.read_text(encoding="utf-8")
        if not text.strip():
            raise BadInputError(f"the prompt file {self.prompt} is empty")
        return text


deeds: dict[str, type[Deed]] = {"generate": GenerateWithRetroInfer}
